//! Compiles the protocol of the tonic example. protox is written in Rust, so that no `protoc` has to be
//! installed.

fn main() -> anyhow::Result<()> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/chat.proto"], ["proto"])?;
    tonic_prost_build::configure().build_transport(false).compile_fds(files)?;
    Ok(())
}
