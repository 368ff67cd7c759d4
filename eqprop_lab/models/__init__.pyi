"""The models and where each lives; `__init__.py` reads it too (see `lazy`)."""

from eqprop_lab.equilibrium.contract import EquilibriumModel as EquilibriumModel
from eqprop_lab.models.adaptive_feedback import AdaptiveFeedbackMLP as AdaptiveFeedbackMLP
from eqprop_lab.models.backprop import (
    BackpropCNN as BackpropCNN,
    BackpropMLP as BackpropMLP,
)
from eqprop_lab.models.conv import (
    ConvEqProp as ConvEqProp,
    DeepEqProp as DeepEqProp,
)
from eqprop_lab.models.equilibrium_alignment import EquilibriumAlignment as EquilibriumAlignment
from eqprop_lab.models.equilibrium_chain import EquilibriumChain as EquilibriumChain
from eqprop_lab.models.language.attention_only import EqPropAttentionOnlyLM as EqPropAttentionOnlyLM
from eqprop_lab.models.language.budget import (
    create_eqprop_lm as create_eqprop_lm,
    within_budget as within_budget,
)
from eqprop_lab.models.language.full import FullEqPropLM as FullEqPropLM
from eqprop_lab.models.language.looped import (
    HybridEqPropLM as HybridEqPropLM,
    LoopedMLPForLM as LoopedMLPForLM,
)
from eqprop_lab.models.language.recurrent import RecurrentEqPropLM as RecurrentEqPropLM
from eqprop_lab.models.language.registry import (
    EQPROP_LM_REGISTRY as EQPROP_LM_REGISTRY,
    HAS_LM_VARIANTS as HAS_LM_VARIANTS,
    EqPropLM as EqPropLM,
    get_eqprop_lm as get_eqprop_lm,
    list_eqprop_lm_variants as list_eqprop_lm_variants,
    register_eqprop_lm as register_eqprop_lm,
)
from eqprop_lab.models.language.transformer import (
    BackpropTransformerLM as BackpropTransformerLM,
    BackpropWindowLM as BackpropWindowLM,
)
from eqprop_lab.models.language.transformer_eqprop import TransformerEqProp as TransformerEqProp
from eqprop_lab.models.looped_mlp import LoopedMLP as LoopedMLP
from eqprop_lab.models.predictive_coding import (
    FeedforwardConv as FeedforwardConv,
    FeedforwardMLP as FeedforwardMLP,
    PredictiveConv as PredictiveConv,
    PredictiveMLP as PredictiveMLP,
)

__all__: list[str]
