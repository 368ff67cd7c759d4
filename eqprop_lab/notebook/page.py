"""What runs in the page beside the widgets: spoken names and values of sliders, copying, wrapping.

ipywidgets gives a slider's handle no name, and a logarithmic one speaks its exponent; Python cannot
reach the reader's clipboard. A picture of one pixel starts a few lines of script when the title is
on the page. A page that runs no scripts loses nothing else.
"""

from __future__ import annotations

import html

_SCRIPT = """
const root = this.closest('.eqprop-live');
if (!root || root.eqpropPage) return;
root.eqpropPage = true;
const put = (element, name, value) => {
  if (element && value && element.getAttribute(name) !== value) element.setAttribute(name, value);
};
const speak = () => root.querySelectorAll('.widget-slider').forEach(slider => {
  const label = slider.querySelector('.widget-label');
  const readout = slider.querySelector('.widget-readout');
  const name = label ? label.textContent.trim() : '';
  const shown = readout ? readout.textContent.trim() : '';
  const unit = (name.match(/\\[(.*)\\]$/) || ['', ''])[1];
  const handle = slider.querySelector('.noUi-handle');
  put(handle, 'aria-label', name);
  put(handle, 'aria-valuetext', unit ? shown + ' ' + unit : shown);
  put(readout, 'aria-label', name + ', type a value');
});
const all = {subtree: true, childList: true, characterData: true, attributes: true};
new MutationObserver(speak).observe(root, {...all, attributeFilter: ['aria-valuetext']});
speak();
root.addEventListener('click', async event => {
  if (!event.target.closest('.eqprop-copy')) return;
  const box = root.querySelector('.eqprop-parameters textarea');
  const note = root.querySelector('.eqprop-copied');
  let done = false;
  try { await navigator.clipboard.writeText(box.value); done = true; }
  catch (refused) {
    box.closest('.eqprop-parameters').style.display = 'flex';
    box.select();
    done = document.execCommand('copy');
  }
  note.textContent = done ? 'Copied. Paste it below the parameters of the notebook.'
                          : 'Not copied: select the text below and press Ctrl+C.';
});
"""

_PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="

BRIGHTER = 1.1
"""What a dark page multiplies the colours of pictures by: no one grey has a contrast of 4.5 to 1
with a white page and with JupyterLab's dark one.
"""

STYLE = (
    "<style>.eqprop-live .widget-inline-hbox,.eqprop-live .widget-hbox"
    "{flex-wrap:wrap;height:auto;max-width:100%}"
    ".eqprop-live{max-width:100%;overflow-x:hidden}"
    ".eqprop-live .widget-slider .slider-container{min-width:8em}"
    ".eqprop-live .noUi-handle:focus-visible{outline:3px solid #E69F00;outline-offset:2px}"
    "body[data-jp-theme-light=false] img.eqprop-picture"
    f"{{filter:brightness({BRIGHTER})}}</style>"
)
"""Controls wrap where the page is narrow; the slider that the keyboard moves has a ring. All
pictures of a dark page are brighter while one of them lives.
"""


def page_script() -> str:
    """The script as an element of the title, with the line that says what was copied."""
    run = html.escape(f"(function(){{{_SCRIPT}}}).call(this)", quote=True)
    return (
        f'{STYLE}<img alt="" aria-hidden="true" src="{_PIXEL}" onload="{run}" style="display:none">'
        ' <span role="log" class="eqprop-copied"></span>'
    )
