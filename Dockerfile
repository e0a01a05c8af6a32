# The image of secretwatch: one static binary, and nothing else.
#
#   docker build -t secretwatch .                          the image, built from source
#   docker build -t secretwatch --target prebuilt .        the same, of a binary from dist/ARCH/secretwatch
#   docker build --target artifact --output dist/amd64 .   the binary alone
#
# examples/image/README.md has more: podman, both platforms, one's own image, what was checked.

ARG RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm

# What the image and the one of a prebuilt binary have in common.
FROM scratch AS image
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="secretwatch" \
      org.opencontainers.image.description="Rotate a mounted secret without restarting anything, and know that it worked" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# By number: there is no /etc/passwd, and Kubernetes can tell from a number that it is not root.
USER 65534:65534
ENTRYPOINT ["/secretwatch"]
CMD ["serve"]

# Needs no base image and runs no command, so it takes no time, for whatever processor.
FROM image AS prebuilt
ARG TARGETARCH
ARG BINARY=dist/${TARGETARCH}/secretwatch
COPY --chmod=0555 ${BINARY} /secretwatch

# Runs on the processor that builds, whatever the image is for: the linker that comes with Rust links
# for both.
FROM --platform=${BUILDPLATFORM} ${RUST_IMAGE} AS build
ARG TARGETARCH
WORKDIR /build
RUN case "${TARGETARCH}" in \
      amd64) echo x86_64-unknown-linux-musl >target ;; \
      arm64) echo aarch64-unknown-linux-musl >target ;; \
      *) echo "TARGETARCH is '${TARGETARCH}': expected amd64 or arm64" >&2; exit 1 ;; \
    esac && \
    rustup target add "$(cat target)"

# The dependencies are layers of their own, which a change of the sources leaves as they are. Messages
# of panics have the path of the source file: without the remapping the binary would know, and depend
# on, where it was built.
WORKDIR /build/secretwatch
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir -p src benches/proof examples && \
    sed -n '/^\[\[example\]\]/,/^name/ s/^name = "\(.*\)"/\1/p' Cargo.toml >names && \
    touch src/lib.rs && \
    echo 'fn main() {}' | tee src/main.rs benches/proof/main.rs $(sed 's|.*|examples/&.rs|' names) && \
    cargo fetch --locked --target "$(cat ../target)"
RUN printf '[build]\ntarget = "%s"\n[target.%s]\nrustflags = ["--remap-path-prefix=%s=", "--remap-path-prefix=/build="]\n' \
      "$(cat ../target)" "$(cat ../target)" "$(echo "${CARGO_HOME}"/registry/src/*)" >../config.toml && \
    cargo build --config ../config.toml --locked --release

COPY src src
# They may be older than what was built in their place, and cargo goes by the time.
RUN touch src/lib.rs src/main.rs && \
    cargo build --config ../config.toml --locked --release && \
    install -m 0555 "target/$(cat ../target)/release/secretwatch" /secretwatch

# The binary alone, to copy into another image.
FROM scratch AS artifact
COPY --from=build /secretwatch /secretwatch

FROM image AS final
COPY --from=artifact /secretwatch /secretwatch
