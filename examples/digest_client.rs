//! Sends files to `digest_server`, four at a time, and compares its answers with digests of its
//! own.
//!
//! ```text
//! cargo run --example digest_server demo                     # in one terminal
//! cargo run --example digest_client demo Cargo.toml          # in another
//! git ls-files | cargo run --example digest_client demo      # or with the files on standard input
//! ```
//!
//! Ends with an error if a digest or a size differs. The same source runs on Unix and on Windows.
//! The first argument names the place to meet.

use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, net::Shutdown, thread};
use winpipe::ipc;

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let path = ipc::path(&args.next().unwrap_or_else(|| "winpipe-digest".into()))?;
    let mut files: Vec<String> = args.collect();
    if files.is_empty() {
        files = io::stdin().lines().collect::<io::Result<_>>()?;
    }

    let next = AtomicUsize::new(0);
    let work = || -> io::Result<u64> {
        let mut total = 0;
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (own, size) =
                send(file, &path).map_err(|e| io::Error::new(e.kind(), format!("{file}: {e}")))?;
            println!("{own}  {size:>9}  {file}");
            total += size;
        }
        Ok(total)
    };
    let totals: io::Result<Vec<u64>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker panicked"))
            .collect()
    });
    println!(
        "{} files, {} bytes: all digests agree",
        files.len(),
        totals?.iter().sum::<u64>()
    );
    Ok(())
}

/// Sends one file on a connection of its own. Gives back its digest and size if the server found
/// the same.
fn send(file: &str, path: &Path) -> io::Result<(String, u64)> {
    let mut source = File::open(file)?;
    let mut server = ipc::connect(path)?;
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 64 * 1024]);
    loop {
        let n = source.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        server.write_all(&buffer[..n])?;
        hasher.update(&buffer[..n]);
        size += n as u64;
    }
    // The server sees the end of the file, and can still answer.
    server.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;

    let own = format!("{:x}", hasher.finalize());
    if answer != format!("{own} {size}\n") {
        let message = format!(
            "own digest and size {own} {size}, the server's {}",
            answer.trim_end()
        );
        return Err(io::Error::other(message));
    }
    Ok((own, size))
}
