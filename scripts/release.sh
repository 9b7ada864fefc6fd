#!/usr/bin/env bash
# One file to take elsewhere: dist/harness-VERSION-TARGET.tar.gz with the binary, its man pages and completions.
#   release.sh [TARGET]       default: musl (fully static) where rustup has that target and musl-gcc is there, else glibc,
#                             which needs a glibc at least as new as this machine's, and nothing else (checked below)
# On Debian: apt-get install musl-tools; rustup target add x86_64-unknown-linux-musl
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
musl=${host/-gnu/-musl}
if [ $# -gt 0 ]; then
  target=$1
elif command -v musl-gcc >/dev/null && [ -d "$(rustc --print sysroot)/lib/rustlib/$musl" ]; then
  target=$musl
else
  target=$host
fi
cargo build --release --locked -p harness --target "$target"
binary=target/$target/release/harness

# Which libraries it asks for at start: none, or those of glibc.
needed=$(readelf -d "$binary" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
if others=$(grep -vE '^(libc|libm|libgcc_s|ld-linux-x86-64|ld-linux-aarch64)\.so' <<<"$needed" | grep .); then
  echo "the binary needs more than glibc: $others" >&2
  exit 1
fi
glibc=$(readelf --version-info "$binary" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1 || true)

version=$("$binary" --version | cut -d' ' -f2)
name=harness-$version-$target
rm -rf "dist/$name" && mkdir -p "dist/$name/completions"
cp "$binary" LICENSE-MIT LICENSE-APACHE README.md "dist/$name/"
"$binary" man "dist/$name/man"
for shell in bash zsh fish; do "$binary" completions $shell >"dist/$name/completions/harness.$shell"; done
tar -C dist -czf "dist/$name.tar.gz" "$name"
echo "dist/$name.tar.gz: $(du -h "$binary" | cut -f1) binary; needs ${glibc:-nothing of the system}"
