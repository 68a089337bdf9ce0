# The image of every process of payhook: `serve`, `work`, `migrate`. Build it with `docker compose build`.

FROM python:3.11-slim-bookworm AS packages
WORKDIR /build
COPY requirements.lock ./
RUN python -m venv /opt/payhook \
    && /opt/payhook/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock

# The build tool is in the development lock, with its hash; nothing of this stage but the wheel goes any further.
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /build
COPY requirements-dev.lock ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements-dev.lock
COPY pyproject.toml README.md LICENSE alembic.ini ./
COPY ingress ingress
COPY worker worker
COPY sandbox sandbox
COPY migrations migrations
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist .

FROM packages AS installed
COPY --from=wheel /build/dist dist
RUN /opt/payhook/bin/pip install --no-cache-dir --no-deps --no-index dist/*.whl

FROM python:3.11-slim-bookworm
RUN groupadd --system --gid 10001 payhook \
    && useradd --system --uid 10001 --gid payhook --no-create-home --home-dir /nonexistent payhook
COPY --from=installed /opt/payhook /opt/payhook
# The file system is mounted read-only: Python is not to try and write what it has compiled.
ENV PATH=/opt/payhook/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /opt/payhook
EXPOSE 8080
ENTRYPOINT ["payhook"]
CMD ["--help"]
