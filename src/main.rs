//! The binary: everything is in the library.

fn main() -> std::process::ExitCode {
    lokid::cli::main()
}
