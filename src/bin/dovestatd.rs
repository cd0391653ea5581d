//! The daemon's program.
fn main() -> std::process::ExitCode {
    dovestat::daemon::main(std::env::args_os().skip(1))
}
