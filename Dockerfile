# Kindred's worker and commands.  Built in two steps, so that the image carries no compiler.

FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/kindred
ENV PATH=/opt/kindred/bin:$PATH
WORKDIR /src
# annoy compiles for the very processor that builds it, unless it is told otherwise: the image may run on another.
# For hosts that are all alike, build with --build-arg ANNOY_COMPILER_ARGS=...,-march=x86-64-v3 for faster searches.
ARG ANNOY_COMPILER_ARGS=-O3,-ffast-math,-fno-associative-math,-fpermissive,-DANNOYLIB_MULTITHREADED_BUILD,-std=c++14
ENV ANNOY_COMPILER_ARGS=$ANNOY_COMPILER_ARGS
COPY constraints.txt ./
RUN pip install --no-cache-dir -c constraints.txt setuptools wheel \
    && pip install --no-cache-dir -c constraints.txt --no-build-isolation annoy
COPY pyproject.toml README.md LICENSE ./
COPY models models/
COPY indexes indexes/
COPY streams streams/
RUN pip install --no-cache-dir -c constraints.txt --no-build-isolation .

FROM python:3.11-slim-bookworm
COPY --from=build /opt/kindred /opt/kindred
RUN useradd --uid 10001 --create-home kindred && install -d -o kindred -g kindred /var/lib/kindred
# One thread per BLAS call: workers grow by processes, and more threads make small products slower.
ENV PATH=/opt/kindred/bin:$PATH PYTHONUNBUFFERED=1 OPENBLAS_NUM_THREADS=1 KINDRED_DATA=/var/lib/kindred
# By number, so that an orchestrator can see that it is not root.
USER 10001
WORKDIR /var/lib/kindred
VOLUME /var/lib/kindred
ENTRYPOINT ["kindred"]
CMD ["worker"]
