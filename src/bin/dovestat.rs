//! The client's program.
fn main() -> std::process::ExitCode {
    dovestat::cli::main(std::env::args_os())
}
