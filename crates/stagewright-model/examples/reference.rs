//! Prints the reference of pipeline files, for `cargo xtask schema`.

fn main() {
    print!("{}", stagewright_model::file_reference());
}
