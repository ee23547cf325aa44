# The operator's image. Any base with Python 3.11 or newer as `python3` (with venv) and a shell will do; both stages use it, since a
# virtual environment is tied to its interpreter.
#   docker build --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse --short HEAD) -t registry-status-operator .
# Another package index: --secret id=pip,src=pip.conf, and its authority: --secret id=ca,src=ca.crt with `cert = /run/secrets/ca.crt`.
ARG BASE=python:3.11-slim

FROM ${BASE} AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/build.txt requirements/run.txt /requirements/
# The tools live in an environment of their own; the product's has not even pip. The file system will be read-only, so everything is
# compiled here, but for the generated half of the kubernetes client (50 MB), none of which the operator imports.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    python3 -m venv /tools \
    && /tools/bin/python -m pip install --require-hashes --requirement /requirements/build.txt \
    && python3 -m venv --without-pip /opt/registry-status \
    && /tools/bin/python -m pip --python /opt/registry-status/bin/python install --require-hashes --only-binary :all: \
       --no-compile --requirement /requirements/run.txt \
    && find /opt/registry-status/bin -type f -delete \
    && python3 -m compileall -q --invalidation-mode unchecked-hash -x 'kubernetes/(aio/)?client/(api|models)/' /opt/registry-status/lib

FROM dependencies AS application
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
# Apart from what it needs: a change of the source then changes one small layer.
RUN /tools/bin/hatchling build -t wheel -d /wheel \
    && /tools/bin/python -m pip --python /opt/registry-status/bin/python install --no-deps --no-index --no-compile \
       --prefix /application /wheel/*.whl \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /application/lib

FROM ${BASE}
# A number, so that runAsNonRoot can be checked; with a name, which getpass.getuser (kopf) asks for.
RUN echo 'registry-status:x:65532:' >>/etc/group \
    && echo 'registry-status:x:65532:65532:registry-status:/nonexistent:/usr/sbin/nologin' >>/etc/passwd
COPY --from=dependencies /opt/registry-status /opt/registry-status
COPY --from=application /application /opt/registry-status
ENV PATH=/opt/registry-status/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["/opt/registry-status/bin/registry-status"]
CMD ["run"]
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG SOURCE=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="registry-status-operator" \
      org.opencontainers.image.description="Keeps Apache ServiceComb Service Center instance statuses in step with pods" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.created="${CREATED}"
