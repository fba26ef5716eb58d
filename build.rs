//! Notes by which compiler the binary was built, for `longshore_build_info`, and links how it uses its heap into it.

#![allow(clippy::disallowed_methods, reason = "cargo tells a build script by its environment")]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = std::process::Command::new(rustc).arg("--version").output();
    let version = told.ok().and_then(|told| String::from_utf8(told.stdout).ok()).unwrap_or_default();
    println!("cargo:rustc-env=LONGSHORE_RUSTC={}", version.split(' ').nth(1).unwrap_or("unknown"));

    println!("cargo:rerun-if-changed=src/sys/heap.c");
    // As an object of its own: nothing calls it, so from a library it would not be taken.
    for object in cc::Build::new().file("src/sys/heap.c").compile_intermediates() {
        println!("cargo:rustc-link-arg-bins={}", object.display());
    }
}
