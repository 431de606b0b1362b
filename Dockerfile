# The course in JupyterLab: docker build -t sparsekit . && docker run --rm -p 8888:8888 sparsekit
# The address that it prints at the start has the key that Jupyter asks for.
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home reader \
    && install --directory --owner=reader /course
USER reader
WORKDIR /course

# The environment depends on these files alone, so a change of the code does not make it anew.
COPY --chown=reader pyproject.toml constraints.txt README.md LICENSE Makefile ./
COPY --chown=reader tools tools
COPY --chown=reader sparsekit/__init__.py sparsekit/__init__.py
RUN make setup

COPY --chown=reader . .
EXPOSE 8888
CMD ["make", "lab", "ARGS=--no-browser --ip=0.0.0.0 --port=8888"]
