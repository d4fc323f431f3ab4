//! Migrations live beside the crates, where Cargo does not look for changes by itself.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
