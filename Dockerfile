# syntax=docker/dockerfile:1

# The image of all processes: the program, the C library, and certificates of public authorities.
#
#   docker build --tag registry.example/tidegate:0.1.0 .

# The channel of rust-toolchain.toml.
ARG RUST=1.95.0

# What the program runs on: any with the C library of Debian 12 or a newer one, also one without a shell.
ARG BASE=debian:bookworm-slim

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
    && cp target/dist/tidegate /usr/local/bin/tidegate
# It runs, and wants no library that the image below does not have.
RUN tidegate --version \
    && ! ldd /usr/local/bin/tidegate | grep --invert-match --extended-regexp 'linux-vdso|ld-linux|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+)\.so'

FROM ${BASE}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/bin/tidegate /usr/local/bin/tidegate
# As a number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/tidegate"]
