//! What the worker adds to an action: `cargo bench -p grid-worker --bench actions`.
//!
//! The servers are in memory and in this process, worker and runner are the real ones, as two users where this runs
//! as root. It prints a table and judges nothing: what is expected stands in `docs/performance.md`.
#![allow(clippy::print_stdout, reason = "a benchmark's output is its purpose")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark is a test")]

#[path = "../tests/grid/mod.rs"]
mod grid;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command as Process;
use std::time::{Duration, Instant};

use grid::Grid;
use grid::tree::Tree;
use grid_proto::reapi::{ActionResult, Command};
use prost_types::Timestamp;

/// Prints how long the steps of the last action took.
fn say_steps(result: &ActionResult) {
    let metadata = result.execution_metadata.clone().unwrap();
    let at = |moment: Option<Timestamp>| {
        let moment = moment.unwrap();
        moment.seconds as f64 * 1e3 + f64::from(moment.nanos) / 1e6
    };
    let fetch = at(metadata.input_fetch_completed_timestamp) - at(metadata.input_fetch_start_timestamp);
    let run = at(metadata.execution_completed_timestamp) - at(metadata.execution_start_timestamp);
    let upload = at(metadata.output_upload_completed_timestamp) - at(metadata.output_upload_start_timestamp);
    println!("  of the last one: fetch and stage {fetch:.2} ms, run {run:.2} ms, upload {upload:.2} ms");
}

/// A program that does nothing, static: it runs in any root.
fn nothing() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let (source, program) = (directory.path().join("nothing.c"), directory.path().join("nothing"));
    std::fs::write(&source, "int main(void) { return 0; }").unwrap();
    let built = Process::new("cc").args(["-static", "-O1", "-o"]).arg(&program).arg(source).status();
    assert!(built.unwrap().success(), "cc -static is needed");
    std::fs::read(program).unwrap()
}

fn command(number: usize) -> Command {
    Command { arguments: vec!["./nothing".to_owned(), number.to_string()], ..Command::default() }
}

/// The processor time that worker and runner have taken, with all that the runner has waited for.
fn processor_time(grid: &Grid) -> f64 {
    let ticks = |process: &Option<std::process::Child>| -> u64 {
        let path = format!("/proc/{}/stat", process.as_ref().unwrap().id());
        let stat = std::fs::read_to_string(path).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        fields.skip(11).take(4).map(|field| field.parse::<u64>().unwrap()).sum()
    };
    let all = ticks(&grid.worker) + ticks(&grid.runner);
    all as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// The time from the lease to its result, of `count` actions one after the other.
async fn times(grid: &Grid, inputs: &Tree, count: usize) -> Vec<Duration> {
    let (mut times, mut last) = (Vec::new(), None);
    for number in 0..count {
        let start = Instant::now();
        let (status, result) = grid.run(&command(number), inputs).await;
        times.push(start.elapsed());
        assert_eq!((status.code, result.exit_code), (0, 0), "{}", status.message);
        last = Some(result);
    }
    last.iter().filter(|_| count > 1).for_each(say_steps);
    times.sort_unstable();
    times
}

fn say(what: &str, times: &[Duration], processor: f64) {
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    let processor = processor * 1e3 / times.len() as f64;
    println!("{what:<50} p50 {:>8.2} ms   p95 {:>8.2} ms   processor {processor:>8.2} ms", at(50), at(95));
}

/// Measures and prints.
async fn measure(what: &str, grid: &Grid, inputs: &Tree, count: usize) {
    let before = processor_time(grid);
    let times = times(grid, inputs, count).await;
    say(what, &times, processor_time(grid) - before);
}

async fn overhead(program: &[u8]) {
    for mode in ["plain", "bubblewrap"] {
        let grid = Grid::isolated(mode, &["--probe", "none"]).await;
        let inputs = Tree::default().program("nothing", program);
        times(&grid, &inputs, 20).await;
        measure(&format!("an action that does nothing, {mode}"), &grid, &inputs, 200).await;
    }
}

/// A warm root of 10,000 files, the same with one file changed each time, and the links of it alone.
async fn large_root(program: &[u8]) {
    let grid = Grid::with(&["--probe", "none"]).await;
    let mut inputs = Tree::default().program("nothing", program);
    for number in 0..10_000 {
        inputs = inputs.file(&format!("d{}/f{number}", number % 100), number.to_string());
    }
    times(&grid, &inputs, 3).await;
    measure("a warm root of 10,000 files in 100 directories", &grid, &inputs, 20).await;
    let (mut changed, own) = (Vec::new(), processor_time(&grid));
    for number in 0..20 {
        let inputs = inputs.clone().file("d7/f7", format!("version {number}"));
        changed.extend(times(&grid, &inputs, 1).await);
    }
    changed.sort_unstable();
    say("the same, one file changed each time", &changed, processor_time(&grid) - own);
    let own = own_time();
    let mut links: Vec<Duration> = (0..10).map(|_| link_alone(grid.directory.path())).collect();
    links.sort_unstable();
    say("the same links, made and removed by a bare loop", &links, own_time() - own);
}

/// An output of 64 MiB that the CAS has not got.
async fn large_output() {
    let grid = Grid::with(&["--probe", "none"]).await;
    let (mut times, before) = (Vec::new(), processor_time(&grid));
    for number in 0..5 {
        let script = format!("(echo {number}; head -c 67108800 /dev/zero) > out");
        let start = Instant::now();
        let (status, result) = grid.run(&grid::making(&script, &["out"]), &Tree::default()).await;
        times.push(start.elapsed());
        assert_eq!((status.code, result.output_files.len()), (0, 1), "{}", status.message);
        if number == 4 {
            say_steps(&result);
        }
    }
    times.sort_unstable();
    say("an output of 64 MiB", &times, processor_time(&grid) - before);
}

/// The processor time of this process.
fn own_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

fn link_alone(directory: &Path) -> Duration {
    let source = directory.join("source");
    std::fs::write(&source, "x").unwrap();
    let root = directory.join("links");
    let start = Instant::now();
    for number in 0..100 {
        std::fs::create_dir_all(root.join(format!("d{number}"))).unwrap();
    }
    for number in 0..10_000 {
        std::fs::hard_link(&source, root.join(format!("d{}/f{number}", number % 100))).unwrap();
    }
    std::fs::remove_dir_all(&root).unwrap();
    start.elapsed()
}

/// Inputs that the worker hasn't got, 1 GiB of each kind: small files in batches, large ones in streams.
async fn cold(program: &[u8]) {
    for (count, size) in [(20_000_usize, 53_687), (10, 107_374_182)] {
        let grid = Grid::with(&["--probe", "none"]).await;
        let mut inputs = Tree::default().program("nothing", program);
        for number in 0..count {
            let mut content = vec![b'-'; size];
            content[..8].copy_from_slice(&u64::try_from(number).unwrap().to_be_bytes());
            inputs = inputs.file(&format!("d{}/f{number}", number % 100), content);
        }
        measure(&format!("a cold root of {count} files of {size} bytes"), &grid, &inputs, 1).await;
        drop(inputs);
        let own = own_time();
        let bare = transfer_alone(grid.directory.path(), count, size);
        say("  the same through a socket to the disk, bare", &[bare], own_time() - own);
    }
}

/// The bytes of so many files through a TCP connection, each written to a file and linked: what network stack and
/// disk give where nothing is checked.
fn transfer_alone(directory: &Path, count: usize, size: usize) -> Duration {
    let root = directory.join("bare");
    std::fs::create_dir(&root).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let start = Instant::now();
    let sender = std::thread::spawn(move || {
        let content = vec![b'-'; size];
        let (mut connection, _) = listener.accept().unwrap();
        (0..count).for_each(|_| connection.write_all(&content).unwrap());
    });
    let mut connection = TcpStream::connect(address).unwrap();
    let mut content = vec![0; size];
    for number in 0..count {
        connection.read_exact(&mut content).unwrap();
        std::fs::write(root.join(number.to_string()), &content).unwrap();
        std::fs::hard_link(root.join(number.to_string()), root.join(format!("link{number}"))).unwrap();
    }
    sender.join().unwrap();
    start.elapsed()
}

#[tokio::main]
async fn main() {
    let program = nothing();
    overhead(&program).await;
    if std::env::args().any(|argument| argument == "overhead") {
        return;
    }
    large_root(&program).await;
    large_output().await;
    cold(&program).await;
}
