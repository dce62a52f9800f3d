//! Memory and restart with many znodes.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{self, Client, Session};
use crate::servers::{Ensemble, Whose};

/// Znodes below one parent.
const CHILDREN: u64 = 1000;

/// Connections that fill, and creations that each has under way.
const FILLERS: u64 = 8;
const UNDER_WAY: usize = 256;

pub struct Found {
    pub fill_s: f64,
    pub resident_mb: f64,
    /// From the start of the process to the first answer to a read.
    pub restart_s: f64,
    pub restarted_mb: f64,
}

pub fn measure(whose: Whose, znodes: u64) -> Result<Found, String> {
    let failed = |error: io::Error| format!("{}: {error}", whose.name());
    let mut ensemble = Ensemble::start(whose, 1)?;
    let port = ensemble.ports()[0];
    let begin = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime
        .block_on(async {
            let fillers = (0..FILLERS).map(|number| fill(port, number, znodes));
            futures_util::future::try_join_all(fillers).await.map(drop)
        })
        .map_err(failed)?;
    let fill_s = begin.elapsed().as_secs_f64();
    let resident_mb = ensemble.resident_mb();
    ensemble.kill(0)?;
    let begin = Instant::now();
    ensemble.launch(0)?;
    let last = znodes - 1;
    let read = client::get(&path(last));
    let restart_s = loop {
        // It may take the connection before it can answer on it, and never do so.
        let answer = Client::connect(port, &Session::default(), Duration::from_millis(500))
            .and_then(|mut one| one.call(&read));
        match answer {
            Ok(0) => break begin.elapsed().as_secs_f64(),
            Ok(code) => return Err(format!("{}: error {code} for the last znode", whose.name())),
            Err(error) if begin.elapsed() > Duration::from_secs(180) => return Err(failed(error)),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    Ok(Found { fill_s, resident_mb, restart_s, restarted_mb: ensemble.resident_mb() })
}

fn path(number: u64) -> String {
    format!("/many-{}/n{number:07}", number / CHILDREN)
}

/// Makes its part of the parents, and all that is below them.
async fn fill(port: u16, number: u64, znodes: u64) -> io::Result<()> {
    let parents = znodes.div_ceil(CHILDREN);
    let mut requests = (0..parents).filter(|parent| parent % FILLERS == number).flat_map(|parent| {
        let below = parent * CHILDREN..((parent + 1) * CHILDREN).min(znodes);
        let top = client::create(&format!("/many-{parent}"), b"");
        std::iter::once(top).chain(below.map(|number| client::create(&path(number), &[b'z'; 100])))
    });
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(&client::hello(&Session::default())).await?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let mut welcome = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut welcome).await?;
    client::welcome(&welcome)?;
    let (mut under_way, mut input, mut output) = (0, Vec::new(), Vec::new());
    loop {
        for request in requests.by_ref().take(UNDER_WAY - under_way) {
            output.extend(request);
            under_way += 1;
        }
        if under_way == 0 {
            return Ok(());
        }
        stream.write_all(&output).await?;
        output.clear();
        if stream.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = 0;
        while let Some(length) = input.get(at..at + 4) {
            let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
            let Some(frame) = input.get(at + 4..at + 4 + length) else { break };
            if client::error_of(frame) != Some(0) {
                return Err(io::Error::other(format!("error {:?} for a new znode", client::error_of(frame))));
            }
            at += 4 + length;
            under_way -= 1;
        }
        input.drain(..at);
    }
}
