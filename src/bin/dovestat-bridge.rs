//! The program of `dovestat bridge`.
fn main() -> std::process::ExitCode {
    dovestat::dovestat_bridge(std::env::args_os())
}
