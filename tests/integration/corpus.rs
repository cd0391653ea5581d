//! The corpus of the fuzzer, replayed: everything it has found that reaches code of
//! its own or once failed.

#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

/// The inputs of a target.
fn inputs(name: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let entries = fs::read_dir(dir.join(name)).expect("a target has a corpus");
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Replays what a target has. Which input it is stands last in what is printed.
fn replay(name: &str) {
    let (_, run) = targets::TARGETS
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a target of that name");
    let (mut count, mut size) = (0, 0);
    for path in inputs(name) {
        println!("{}", path.display());
        let bytes = fs::read(&path).unwrap();
        (count, size) = (count + 1, size + bytes.len());
        run(&bytes);
    }
    println!("{name}: {count} inputs of {size} bytes");
    assert!((1..=110).contains(&count), "{count} inputs");
    assert!(size <= 200 << 10, "{size} bytes");
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_is_replayed() {
            let names = targets::TARGETS.map(|(name, _)| name);
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

replays! { bridge carbon config http records reply requests state store }
