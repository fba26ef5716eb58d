# The image of Longshore: a static binary and nothing else. Build it from what `scripts/dist` made:
#
#   scripts/dist
#   docker build --tag longshore:0.1.0 $(sed 's/^/--build-arg /' target/dist/labels) .
#
# No syntax of BuildKit: any builder can build it.
FROM scratch

ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="longshore" \
      org.opencontainers.image.description="Carries every line of every Docker container into rotating files, exactly once" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.vendor="Longshore"

COPY target/dist/root/usr/share/doc/longshore/LICENSE-* /usr/share/doc/longshore/
COPY target/dist/root/usr/bin/longshore /usr/bin/longshore

# Docker's files belong to root (0640 and 0600), so the agent runs as root; it needs none of root's capabilities. Another
# user can't read them, not even with CAP_DAC_READ_SEARCH added: engines and kubelets set no ambient capabilities.
# hadolint ignore=DL3002
USER 0:0
# What has to outlive the container: positions, and outputs. Mount both; a volume without a name goes with its container.
VOLUME ["/var/lib/longshore", "/var/log/longshore"]
# SIGTERM drains for up to --shutdown-timeout (30 s): give `docker stop` more, e.g. --stop-timeout 60.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["/usr/bin/longshore", "healthcheck"]
# What `docker exec` and `kubectl exec` look through.
ENV PATH=/usr/bin
ENTRYPOINT ["/usr/bin/longshore"]
CMD ["run"]
