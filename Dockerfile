# `docker build -t eqprop_lab .`, then `docker run --rm -p 127.0.0.1:8000:8000 eqprop_lab`: a server of
# two networks that come with the package; others by name after the image's.
FROM python:3.13-slim

ENV PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY eqprop_lab eqprop_lab
# setuptools first and from the pinned list, as the Makefile does it; torch without CUDA.
RUN pip install --no-cache-dir --constraint constraints.txt setuptools \
    && pip install --no-cache-dir --constraint constraints.txt --no-build-isolation \
        --extra-index-url https://download.pytorch.org/whl/cpu ".[serve]" \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin serve

USER 10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
CMD ["python", "-m", "eqprop_lab", "serve", "digits_conv", "shakespeare_hybrid", "--host", "0.0.0.0", "--port", "8000"]
