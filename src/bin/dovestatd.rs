//! The daemon's program.
fn main() -> std::process::ExitCode {
    dovestat::dovestatd(std::env::args_os().skip(1))
}
