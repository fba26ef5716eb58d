//! Notes by which compiler the library was built, for `longshore_build_info`.

#![allow(clippy::disallowed_methods, reason = "cargo tells a build script by its environment")]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = std::process::Command::new(rustc).arg("--version").output();
    let version = told.ok().and_then(|told| String::from_utf8(told.stdout).ok()).unwrap_or_default();
    println!("cargo:rustc-env=LONGSHORE_RUSTC={}", version.split(' ').nth(1).unwrap_or("unknown"));
}
