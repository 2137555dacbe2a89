#!/bin/bash -eu
# Builds the fuzz targets for ClusterFuzzLite and OSS-Fuzz: each into $OUT, with its seeds, dictionary and options.
# Works outside of their image too, where the repository is (or is linked as) softbpf in the folder $SRC.
cd "$SRC/softbpf"
mkdir -p "$OUT"

# In the image nightly is the default toolchain.
cargo=(cargo)
rustc --version | grep -q nightly || cargo+=(+nightly)
"${cargo[@]}" fuzz build -O --debug-assertions

# A program like others: without the flags that the image sets for fuzzers.
env -u RUSTFLAGS -u CFLAGS -u CXXFLAGS bash .ci/fuzz --seeds

built=${CARGO_TARGET_DIR:-fuzz/target}/x86_64-unknown-linux-gnu/release
for target in $("${cargo[@]}" fuzz list); do
    cp "$built/$target" "$OUT/"
    folders=("fuzz/seeds/$target")
    [ ! -d "fuzz/regressions/$target" ] || folders+=("fuzz/regressions/$target")
    rm -f "$OUT/${target}_seed_corpus.zip"
    zip --quiet --junk-paths --recurse-paths "$OUT/${target}_seed_corpus.zip" "${folders[@]}"
    printf '[libfuzzer]\ntimeout = 10\nrss_limit_mb = 2048\ndetect_leaks = 0\n' >"$OUT/$target.options"
    [ ! -f "fuzz/dictionaries/$target.dict" ] || cp "fuzz/dictionaries/$target.dict" "$OUT/"
done
