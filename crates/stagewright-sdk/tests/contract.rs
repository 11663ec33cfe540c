//! The copy of the contract that travels with this crate is the contract.

#![expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]

#[test]
fn both_copies_of_the_wit_are_the_same() {
    let root = env!("CARGO_MANIFEST_DIR");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).expect("the contract is there");
    let (canonical, copy) = (read("../../plugins/wit/stage.wit"), read("wit/stage.wit"));
    assert!(
        canonical == copy,
        "crates/stagewright-sdk/wit/stage.wit differs from plugins/wit/stage.wit, which is the one to edit: copy it over"
    );
}
