//! Links into the binary how it uses its heap, and says how it is linked.

#![allow(clippy::disallowed_methods, reason = "cargo tells a build script by its environment")]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/sys/heap.c");
    // As an object of its own: nothing calls it, so from a library it would not be taken.
    for object in cc::Build::new().file("src/sys/heap.c").compile_intermediates() {
        println!("cargo:rustc-link-arg-bins={}", object.display());
    }
    if runs_where_it_is_built() && glibc().is_some_and(|version| version >= RELATIVE_RELOCATIONS) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// From this version on glibc takes the packed form of relocations, which is 0.3 MB smaller (its NEWS, 2.36). Linkers that
/// don't know it leave it out with a warning.
const RELATIVE_RELOCATIONS: (u32, u32) = (2, 36);

fn runs_where_it_is_built() -> bool {
    std::env::var_os("TARGET") == std::env::var_os("HOST")
}

/// None: another C library, or nobody says.
fn glibc() -> Option<(u32, u32)> {
    if std::env::var_os("CARGO_CFG_TARGET_ENV")? != "gnu" || std::env::var_os("CARGO_CFG_TARGET_OS")? != "linux" {
        return None;
    }
    let told = std::process::Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let (major, minor) = std::str::from_utf8(&told.stdout).ok()?.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
