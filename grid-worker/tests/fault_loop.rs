//! Builds go on while worker and runner are killed at random: every result is the right one, and nothing is left.
//!
//! `GRID_FAULT_LOOP_SECONDS` says for how long; a few seconds where it is not set.

#[cfg(test)]
mod grid;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use grid_proto::reapi::{Action, Command};
    use rand::RngExt;
    use tonic::Code;

    use super::grid::events::gone;
    use super::grid::server::FakeGrid;
    use super::grid::tree::Tree;
    use super::grid::{Grid, making};

    /// Actions of the first step of a build; the second joins what they made.
    const PARTS: usize = 6;
    /// The longest pause between two kills, in milliseconds.
    const LONGEST_PAUSE: u64 = 1_500;

    /// What a loop did.
    #[derive(Debug, Default)]
    struct Tally {
        builds: usize,
        actions: usize,
        given_back: usize,
    }

    /// Runs an action until a worker finishes it, as a scheduler would; gives what it made.
    async fn make(server: &FakeGrid, command: &Command, inputs: &Tree, tally: &mut Tally) -> String {
        let action = Action {
            command_digest: Some(server.put_message(command)),
            input_root_digest: Some(server.put_tree(inputs)),
            ..Action::default()
        };
        server.put_message(&action);
        loop {
            let (status, result) = server.result(&server.enqueue(&action)).await;
            match Code::from_i32(status.code) {
                Code::Ok => {
                    assert_eq!(result.exit_code, 0, "{result:?}");
                    tally.actions += 1;
                    let digest = result.output_files[0].digest.clone().unwrap();
                    return String::from_utf8(server.get(&digest).to_vec()).unwrap();
                }
                // Whatever a kill ends is to be tried again; nothing else may happen.
                Code::Unavailable | Code::Aborted => tally.given_back += 1,
                _ => panic!("{}: {}", status.code, status.message),
            }
        }
    }

    /// The inputs of a part: so many that their tree is kept and used again.
    fn part(build: usize, number: usize) -> Tree {
        let tree = Tree::default().file("src/in", format!("build {build} part {number}\n"));
        (0..50).fold(tree, |tree, header| tree.file(&format!("include/d{}/h{header}", header % 5), "header"))
    }

    async fn build(server: &FakeGrid, word: &str, number: usize, tally: &mut Tally) {
        let compile = format!(
            "test $(cat include/*/* | wc -c) = 300 || exit 1; sleep {word} & sleep 0.05; \
             sed s/^/made-of-/ src/in > out; echo garbage > include/d0/h0-own; rm include/d1/h1 # {number}"
        );
        let compile = making(&compile, &["out"]);
        let mut parts: Vec<String> = Vec::new();
        let (mut first, mut second) = (Tally::default(), Tally::default());
        for pair in (0..PARTS).collect::<Vec<_>>().chunks(2) {
            let (one, other) = (part(number, pair[0]), part(number, pair[1]));
            let (one, other) = tokio::join!(
                make(server, &compile, &one, &mut first),
                make(server, &compile, &other, &mut second)
            );
            parts.extend([one, other]);
        }
        for (at, made) in parts.iter().enumerate() {
            assert_eq!(*made, format!("made-of-build {number} part {at}\n"));
        }
        let inputs = parts
            .iter()
            .enumerate()
            .fold(Tree::default(), |tree, (at, made)| tree.file(&format!("o{at}"), made));
        let linked = make(server, &making("cat o* > out", &["out"]), &inputs, tally).await;
        assert_eq!(linked, parts.concat());
        tally.actions += first.actions + second.actions;
        tally.given_back += first.given_back + second.given_back;
        tally.builds += 1;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn builds_outlive_kills_of_worker_and_runner() {
        let seconds = std::env::var("GRID_FAULT_LOOP_SECONDS").map_or(8, |text| text.parse().unwrap());
        let mut grid = Grid::with(&["--concurrency", "4"]).await;
        let word = format!("{}.125", 200_000 + std::process::id() % 100_000);
        let stop = Arc::new(AtomicBool::new(false));
        let (server, stopped, named) = (grid.server.clone(), stop.clone(), word.clone());
        let builder = tokio::spawn(async move {
            let mut tally = Tally::default();
            while !stopped.load(Ordering::Relaxed) || tally.builds == 0 {
                let number = tally.builds;
                build(&server, &named, number, &mut tally).await;
            }
            tally
        });
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut kills = [0, 0];
        while Instant::now() < end && !builder.is_finished() {
            // A random moment is the point of it.
            let pause = rand::rng().random_range(0..LONGEST_PAUSE);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let victim = usize::from(rand::rng().random_bool(0.5));
            kills[victim] += 1;
            let child = if victim == 0 { &mut grid.worker } else { &mut grid.runner };
            let mut child = child.take().unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            if victim == 0 { grid.start_worker() } else { grid.start_runner() }
        }
        stop.store(true, Ordering::Relaxed);
        let tally = builder.await.unwrap();
        eprintln!("{tally:?}; kills of the worker and of the runner: {kills:?}");
        gone(&word).await;
        grid.swept().await;
    }
}
