//! The table of hostile commands in each mode of isolation: what ends them, or what is open to them.
//!
//! `docs/isolation.md` is made from it; `GRID_BLESS=1` writes it anew.

#[cfg(test)]
mod grid;

#[cfg(test)]
#[path = "attacks/table.rs"]
mod table;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command as Process;
    use std::sync::LazyLock;

    use grid_proto::reapi::platform::Property;
    use grid_proto::reapi::{ActionResult, Command, Platform};
    use grid_proto::rpc;
    use grid_proto::rwapi::BotStatus;
    use tonic::Code;

    use super::grid::events::alive;
    use super::grid::tree::Tree;
    use super::grid::{Grid, is_root};
    use super::table::{ATTACKS, End, Mode, Scene, document};

    /// What every attack may use.
    const LIMITS: [&str; 14] = [
        "--memory-limit",
        "200000000",
        "--process-limit",
        "40",
        "--log-limit",
        "1000000",
        "--file-limit",
        "50000000",
        "--action-disk-limit",
        "100000000",
        "--probe",
        "none",
        "--concurrency",
        "2",
    ];

    /// The attacker's program, static: it needs nothing of its root.
    static PROGRAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks/attack.c");
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("attack");
        let built = Process::new("cc").args(["-static", "-O1", "-o"]).arg(&program).arg(source).status();
        assert!(built.unwrap().success(), "cc -static is needed");
        std::fs::read(program).unwrap()
    });

    fn attack(words: &[String], outputs: &[&str]) -> Command {
        Command {
            arguments: [vec!["./attack".to_owned()], words.to_vec()].concat(),
            output_paths: outputs.iter().map(|path| (*path).to_owned()).collect(),
            ..Command::default()
        }
    }

    fn inputs() -> Tree {
        Tree::default().program("attack", &*PROGRAM).file("in", "precious").file("dir/in", "precious")
    }

    fn scene(grid: &Grid) -> Scene {
        let hash = grid.server.put(b"precious").hash;
        Scene {
            cache: grid.path("cache").display().to_string(),
            cached: grid.path(&format!("cache/files/{}", &hash[..2])).display().to_string(),
            build: grid.path("build").display().to_string(),
            socket: grid.path("run/socket").display().to_string(),
            worker: grid.worker.as_ref().unwrap().id().to_string(),
            runner: grid.runner.as_ref().unwrap().id().to_string(),
            address: grid.served.address.ip().to_string(),
            port: grid.served.address.port().to_string(),
        }
    }

    async fn launch(grid: &Grid, words: &[String], outputs: &[&str]) -> (rpc::Status, ActionResult) {
        // Whatever else may end in its own time, however busy the machine is.
        let seconds = if words[0] == "stubborn" { 3 } else { 50 };
        let lease = grid.submit(&attack(words, outputs), &inputs(), |action| {
            action.timeout = Some(prost_types::Duration { seconds, nanos: 0 });
        });
        grid.result(&lease).await
    }

    fn end_of(status: &rpc::Status, result: &ActionResult) -> End {
        match (Code::from_i32(status.code), result.exit_code) {
            (Code::Ok, 0) => End::Open,
            (Code::Ok, 1) => End::Refused,
            (Code::Ok, 137 | 153) | (Code::DeadlineExceeded, _) => End::Killed,
            (Code::InvalidArgument, _) => End::OutputRefused,
            other => panic!("{other:?}: {} {:?}", status.message, result.stderr_raw),
        }
    }

    async fn withstands(mode: Mode) {
        if !is_root() {
            return;
        }
        let grid = Grid::isolated(mode.name(), &LIMITS).await;
        let scene = scene(&grid);
        for (number, case) in ATTACKS.iter().enumerate() {
            let word = format!("attack-{}-{}-{number}", mode.name(), std::process::id());
            let mut words = (case.words)(&scene);
            words.resize(4, String::new());
            words.push(word.clone());
            let (status, result) = launch(&grid, &words, case.outputs).await;
            let (expected, _) = case.end(mode);
            let said = String::from_utf8_lossy(&result.stderr_raw).into_owned();
            let seen = end_of(&status, &result);
            let harmless = expected == End::Harmless && seen == End::Open;
            assert!(seen == expected || harmless, "{}, {mode:?}: {seen:?}, {said}", case.name);
            assert!(result.output_files.is_empty(), "{}, {mode:?}: {result:?}", case.name);
            assert_eq!(alive(&word), [], "{}, {mode:?}: all are dead", case.name);
            let look = ["show", "in"].map(str::to_owned);
            let (status, result) = launch(&grid, &look, &[]).await;
            assert_eq!((status.code, &*result.stdout_raw), (0, &b"precious"[..]), "{}, {mode:?}", case.name);
        }
        grid.swept().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn plain_isolation_withstands_what_it_says() {
        withstands(Mode::Plain).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn bubblewrap_isolation_withstands_what_it_says() {
        withstands(Mode::Bubblewrap).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn chroot_isolation_withstands_what_it_says() {
        withstands(Mode::Chroot).await;
    }

    #[test]
    fn the_document_is_what_is_tested() {
        let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/isolation.md");
        if std::env::var_os("GRID_BLESS").is_some() {
            std::fs::write(&path, document()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == document(), "docs/isolation.md is not current: GRID_BLESS=1 writes it anew");
    }

    /// Runs the program with platform properties.
    async fn with_platform(
        grid: &Grid,
        words: &[&str],
        properties: &[(&str, String)],
        inputs: &Tree,
    ) -> (rpc::Status, ActionResult) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let property =
            |(name, value): &(&str, String)| Property { name: (*name).to_owned(), value: value.clone() };
        let platform = Platform { properties: properties.iter().map(property).collect() };
        let lease = grid
            .submit(&attack(&words, &["tmp", "in", "."]), inputs, |action| action.platform = Some(platform));
        grid.result(&lease).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn bubblewrap_gives_what_buildstream_asks_for() {
        let grid = Grid::isolated("bubblewrap", &["--probe", "none"]).await;
        let zero = [("unixUID", "0".to_owned()), ("unixGID", "0".to_owned())];
        let (status, result) = with_platform(&grid, &["identity"], &zero, &inputs()).await;
        assert_eq!((status.code, &*result.stdout_raw), (0, &b"0:0\n"[..]), "{}", status.message);
        let names: Vec<_> = result.output_directories.iter().map(|d| d.path.as_str()).collect();
        assert_eq!(names, ["."], "what was made for the command is gone: tmp, proc, dev");
        let tree: grid_proto::reapi::Tree =
            grid.server.get_message(result.output_directories[0].tree_digest.as_ref().unwrap());
        let root = tree.root.unwrap();
        let directories: Vec<_> = root.directories.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(directories, ["dir"]);
        // The root is the command's own: inputs can be written to and chmodded, and the cache stays as it is.
        let (status, result) = with_platform(&grid, &["overwrite", "/in"], &zero, &inputs()).await;
        assert_eq!((status.code, result.exit_code), (0, 0), "{:?}", result.stderr_raw);
        let file = result.output_files.iter().find(|f| f.path == "in").unwrap();
        assert_eq!(grid.server.get(file.digest.as_ref().unwrap()), "evilious");
        let (_, result) = with_platform(&grid, &["show", "/in"], &[], &inputs()).await;
        assert_eq!(&*result.stdout_raw, b"precious");
        // An id that it didn't ask for it hasn't got; nor capabilities, whoever it is.
        for words in [["mount", ""], ["hostname", ""], ["chroot", ""]] {
            let (_, result) = with_platform(&grid, &words, &zero, &inputs()).await;
            assert_eq!(result.exit_code, 1, "{words:?}: {:?}", result.stderr_raw);
        }
        // The inputs lie over the root that is named.
        let base =
            Tree::default().file("in", "from-the-root").file("below", "below").file("dir/more", "more");
        let digest = grid.server.put_tree(&base);
        let chroot = [("chrootDigest", format!("{}/{}", digest.hash, digest.size_bytes))];
        for (path, content) in
            [("/in", "precious"), ("/below", "below"), ("/dir/in", "precious"), ("/dir/more", "more")]
        {
            let (status, result) = with_platform(&grid, &["show", path], &chroot, &inputs()).await;
            assert_eq!(status.code, 0, "{}", status.message);
            assert_eq!(String::from_utf8_lossy(&result.stdout_raw), content, "{path}");
        }
        grid.swept().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_mode_cannot_give_is_refused_and_not_ignored() {
        let plain = Grid::start().await;
        let one = [("unixUID", "1".to_owned())];
        let (status, _) = with_platform(&plain, &["identity"], &one, &inputs()).await;
        assert_eq!(Code::from_i32(status.code), Code::Unavailable);
        assert!(status.message.contains("only bubblewrap"), "{}", status.message);
        let wrapped = Grid::isolated("bubblewrap", &["--probe", "none"]).await;
        let network = [("network", "on".to_owned())];
        let (status, _) = with_platform(&wrapped, &["identity"], &network, &inputs()).await;
        assert!(status.message.contains("not allowed the network"), "{}", status.message);
        let nonsense = [("unixUID", "me".to_owned())];
        let (status, _) = with_platform(&wrapped, &["identity"], &nonsense, &inputs()).await;
        assert_eq!(Code::from_i32(status.code), Code::InvalidArgument);
        for name in ["proc", "dev", "tmp"] {
            let in_the_way = inputs().file(name, "a file");
            let (status, _) = with_platform(&wrapped, &["identity"], &[], &in_the_way).await;
            assert_eq!(Code::from_i32(status.code), Code::InvalidArgument, "{}", status.message);
            assert!(status.message.contains(&format!("/{name}")), "{}", status.message);
        }
        let statuses = wrapped.server.state.lock().statuses.clone();
        assert_eq!(statuses.last(), Some(&BotStatus::Ok), "the worker is not to blame");
        // What lies in the root's own /tmp is seen, and what is made there is found.
        let own = inputs().file("tmp/in", "from-tmp");
        let (status, result) = with_platform(&wrapped, &["show", "/tmp/in"], &[], &own).await;
        assert_eq!((status.code, &*result.stdout_raw), (0, &b"from-tmp"[..]), "{}", status.message);
        let lease = wrapped.submit(
            &attack(&["make", "/tmp/sub/out"].map(str::to_owned), &["tmp/sub/out"]),
            &inputs(),
            |_| {},
        );
        let (status, result) = wrapped.result(&lease).await;
        assert_eq!((status.code, result.output_files.len()), (0, 1), "{} {result:?}", status.message);
    }
}
