//! libFuzzer's program: runs the target that `DOVESTAT_FUZZ` names. How, stands in
//! Cargo.toml.

#![no_main]

mod targets;

use std::sync::OnceLock;

/// The target chosen, looked up once.
fn target() -> fn(&[u8]) {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let name = std::env::var("DOVESTAT_FUZZ").unwrap_or_default();
        let found = targets::TARGETS.iter().find(|(known, _)| *known == name);
        let (_, run) = found.unwrap_or_else(|| {
            let names = targets::TARGETS.map(|(name, _)| name).join(", ");
            panic!("DOVESTAT_FUZZ={name}: not one of {names}")
        });
        *run
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target()(bytes));
