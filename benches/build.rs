//! With the feature `native-c`: compiles the benchmark programs' C sources for this machine.
//!
//! By `$CC` if that is set, else by clang where there is one, since clang made the bytecode too, else by the C
//! compiler of the system. Without vectorisation, which BPF has no instructions for.

fn main() {
    println!("cargo::rerun-if-changed=programs");
    println!("cargo::rustc-env=SOFTBPF_RUSTC={}", rustc_version());
    #[cfg(feature = "native-c")]
    native_c();
}

fn rustc_version() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = std::process::Command::new(rustc).arg("--version").output();
    version.map_or_else(|_| "rustc".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(feature = "native-c")]
fn native_c() {
    use std::process::Command;

    let version = |compiler: &str| {
        let output = Command::new(compiler).arg("--version").output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or(compiler).to_owned())
    };
    println!("cargo::rerun-if-env-changed=CC");
    let mut build = cc::Build::new();
    if std::env::var_os("CC").is_none()
        && let Some(clang) = ["clang-19", "clang"].into_iter().find(|name| version(name).is_some())
    {
        build.compiler(clang);
    }
    let compiler = build.get_compiler();
    let name = version(&compiler.path().to_string_lossy()).unwrap_or_else(|| "a C compiler".to_owned());
    println!("cargo::rustc-env=SOFTBPF_NATIVE_CC={name}");

    let sources = std::fs::read_dir("programs").into_iter().flatten().flatten().map(|entry| entry.path());
    let is_native = |path: &std::path::PathBuf| {
        path.to_str().is_some_and(|path| path.ends_with(".bpf.c") && !path.ends_with("maps.bpf.c"))
    };
    let mut sources: Vec<_> = sources.filter(is_native).collect();
    sources.sort();
    build.files(sources).std("gnu11").opt_level(2).warnings(true).debug(false);
    build.flag("-ffreestanding");
    for flag in ["-fno-vectorize", "-fno-slp-vectorize", "-fno-tree-vectorize", "-Wno-unknown-pragmas"] {
        build.flag_if_supported(flag);
    }
    build.compile("softbpf_bench_programs");
}
