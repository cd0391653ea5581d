//! The client's program.
fn main() -> std::process::ExitCode {
    dovestat::dovestat(std::env::args_os())
}
