# Builds Parlor with its meeting page and puts it on a small base.
#
#   docker build --tag parlor:0.2.0 .
#
# Any base with a glibc at least as new as the build image's will do: nothing is run or installed in it.
ARG NODE_IMAGE=docker.io/library/node:22-trixie-slim
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-trixie
ARG BASE_IMAGE=docker.io/library/debian:trixie-slim

FROM ${NODE_IMAGE} AS page
WORKDIR /build
COPY scripts/build-page scripts/
COPY page page
RUN scripts/build-page

FROM ${RUST_IMAGE} AS binary
WORKDIR /build
COPY . .
COPY --from=page /build/page page
RUN scripts/licenses target/THIRD-PARTY-LICENSES \
 && PARLOR_LICENSES=target/THIRD-PARTY-LICENSES cargo build --locked --release --bin parlor \
 && install -D target/release/parlor /image/usr/local/bin/parlor \
 && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
 && mkdir /data

FROM ${BASE_IMAGE}
COPY --from=binary /image /
COPY --from=binary --chown=65532:65532 /data /data
# In a container, an address of the container has to be listened on. TLS is off by default: a proxy
# terminates it, or PARLOR_TLS_LISTEN and the settings for certificates are set.
ENV PARLOR_DATA_DIR=/data \
    PARLOR_LISTEN=0.0.0.0:8787 \
    PARLOR_TLS_LISTEN=off \
    PARLOR_METRICS_LISTEN=0.0.0.0:8788 \
    PARLOR_MEDIA_LISTEN=0.0.0.0:8789
USER 65532:65532
VOLUME /data
EXPOSE 8787/tcp 8788/tcp 8789/tcp 8789/udp
HEALTHCHECK --interval=10s --timeout=12s --start-period=30s CMD ["parlor", "healthcheck"]
ENTRYPOINT ["parlor"]
CMD ["serve"]
