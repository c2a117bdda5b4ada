# syntax=docker/dockerfile:1

# The image of all processes: the program, the libraries of C that it needs, and certificates of public authorities. Nothing else: no shell,
# no package manager. `cargo xtask image` builds the same root folder without a container engine, and runs the program in it.
#
#   docker build --tag registry.example/tidegate:0.1.0 .

# The channel of rust-toolchain.toml.
ARG RUST=1.95.0

# It has a C and C++ compiler, make and perl, which librdkafka, its OpenSSL and zstd are built with.
FROM rust:${RUST}-bookworm AS build
ARG RUST
ARG TARGETARCH
WORKDIR /src

COPY rust-toolchain.toml .
# Otherwise rustup would fetch another toolchain, or components that no build needs.
RUN grep --quiet --line-regexp "channel = \"${RUST}\"" rust-toolchain.toml \
    || { echo "RUST=${RUST} is not the channel of rust-toolchain.toml" >&2; exit 1; }
ENV RUSTUP_TOOLCHAIN=${RUST}
# Debian's zlib would be linked otherwise, and need not be in the image below.
ENV LIBZ_SYS_STATIC=1

COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=tidegate-target-${TARGETARCH} \
    cargo build --profile dist --locked --package tidegate --bin tidegate \
    && deploy/image-root target/dist/tidegate /image

FROM scratch
COPY --from=build /image /
# As a number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/tidegate"]
