//! Commands that mean harm, in `plain` isolation: what they must not be able to do, and what ends them.

#[cfg(test)]
mod grid;

#[cfg(test)]
mod tests {
    use grid_proto::reapi::{ActionResult, Command};
    use tonic::Code;

    use super::grid::events::gone;
    use super::grid::tree::Tree;
    use super::grid::{Grid, is_root, making, shell};

    async fn attempt(grid: &Grid, command: &Command, inputs: &Tree) -> ActionResult {
        let (status, result) = grid.run(command, inputs).await;
        assert_eq!(Code::from_i32(status.code), Code::Ok, "{}", status.message);
        result
    }

    /// The worker is as it was, and nothing is left of what came before.
    async fn unharmed(grid: &Grid) {
        let inputs = Tree::default().file("in", "precious");
        let result = attempt(grid, &making("cp in out", &["out"]), &inputs).await;
        assert_eq!(grid.server.get(result.output_files[0].digest.as_ref().unwrap()), "precious");
        grid.swept().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn limits_end_what_takes_too_much() {
        let limits = ["--log-limit", "1000000", "--memory-limit", "200000000", "--process-limit", "40"];
        let grid = Grid::with(&limits).await;
        for (script, said) in [
            ("yes", "standard output"),
            ("yes >&2", "standard error"),
            ("exec perl -e '$x = \"x\" x 400_000_000; sleep 1000'", "memory"),
            // Bounded, so that a limit that fails fails this test and not the whole machine.
            ("i=0; while [ $i -lt 60 ]; do sleep 1000 & i=$((i+1)); done; wait", "processes"),
        ] {
            let result = attempt(&grid, &shell(script), &Tree::default()).await;
            assert_eq!(result.exit_code, 137, "{script}");
            let stderr =
                result.stderr_digest.as_ref().map_or(result.stderr_raw.clone(), |d| grid.server.get(d));
            assert!(String::from_utf8_lossy(&stderr).contains(said), "{script}");
            let log = result.stdout_digest.map_or(0, |digest| digest.size_bytes);
            assert!(log <= 1_000_000, "{script}: {log}");
        }
        unharmed(&grid).await;

        let grid = Grid::with(&["--file-limit", "3000000"]).await;
        let result = attempt(
            &grid,
            &making("dd if=/dev/zero of=big bs=1M count=100; ls -l big", &["x"]),
            &Tree::default(),
        )
        .await;
        assert!(String::from_utf8_lossy(&result.stdout_raw).contains(" 3000000 "), "{result:?}");
        unharmed(&grid).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn inputs_and_cache_cannot_be_changed() {
        let grid = Grid::start().await;
        let inputs = Tree::default().file("in", "precious").program("tool", "#!/bin/sh\n");
        let cache = grid.path("cache");
        let build = grid.path("build");
        for script in [
            "chmod 777 in; echo evil > in".to_owned(),
            "echo evil >> in; truncate -s 0 in; ln in hard; echo evil > hard".to_owned(),
            "perl -e 'open(F, \"+<\", \"in\") and print F \"evil\"'".to_owned(),
            format!(
                "ls {0}; find {0} -type f -exec sh -c 'chmod u+w $1; echo evil > $1' _ {{}} \\;",
                cache.display()
            ),
            format!("rm -rf {0}/*; mv {0} {0}.old", cache.display()),
            format!("mv ../../* ../; rm -rf {0}/*; mkdir {0}/planted", build.display()),
            "rm -rf ../logs ../tmp; ln -s /etc ../tmp".to_owned(),
        ] {
            // As two users nothing of it is possible; as one, only what belongs to this very action.
            if is_root() {
                grid.run(&shell(&script), &inputs).await;
                unharmed(&grid).await;
            }
        }
        grid.run(&shell("chmod 777 in; echo evil > in"), &inputs).await;
        unharmed(&grid).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_command_locks_or_buries_is_removed() {
        let grid = Grid::start().await;
        for script in [
            "mkdir -p a/b; echo 1 > a/b/c; chmod 0 a/b/c a/b a",
            "mkdir t; chmod 1777 t; touch t/f; mkdir t/d; chmod 0 t/d",
            "i=0; while [ $i -lt 300 ]; do mkdir d && cd d || exit; i=$((i+1)); done",
            "mkdir w; chmod 2000 w; umask 777; mkdir x; touch x y",
        ] {
            attempt(&grid, &shell(script), &Tree::default()).await;
            unharmed(&grid).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn outputs_that_are_locked_are_read_and_those_that_are_buried_are_refused() {
        let grid = Grid::start().await;
        let script = "umask 777; echo 1 > out; mkdir d; chmod 700 d; echo 2 > d/f; chmod 0 d";
        let result = attempt(&grid, &making(script, &["out", "d"]), &Tree::default()).await;
        assert_eq!((result.output_files.len(), result.output_directories.len()), (1, 1));
        let bury = "mkdir e; cd e; i=0; while [ $i -lt 600 ]; do mkdir d && cd d || exit; i=$((i+1)); done";
        let (status, _) = grid.run(&making(bury, &["e"]), &Tree::default()).await;
        assert_eq!(Code::from_i32(status.code), Code::InvalidArgument);
        assert!(status.message.contains("too deep"), "{}", status.message);
        unharmed(&grid).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn signals_reach_neither_worker_nor_runner_for_long() {
        if !is_root() {
            return;
        }
        let grid = Grid::start().await;
        let worker = grid.worker.as_ref().unwrap().id();
        let result = attempt(&grid, &shell(&format!("kill -9 {worker}")), &Tree::default()).await;
        assert_ne!(result.exit_code, 0, "another user's process");
        // The supervisor is of the command's own user: killing it is no way out.
        let escape = "(setsid sleep 98765.25 &); kill -9 $PPID; sleep 1000";
        let (status, _) = grid.run(&shell(escape), &Tree::default()).await;
        assert_eq!(Code::from_i32(status.code), Code::Unavailable);
        gone("98765.25").await;
        unharmed(&grid).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_gained_by_setuid_ptrace_or_the_processes_files() {
        if !is_root() {
            return;
        }
        let grid = Grid::start().await;
        let worker = grid.worker.as_ref().unwrap().id();
        let runner = grid.runner.as_ref().unwrap().id();
        let script = format!(
            "for p in {worker} {runner} $PPID; do for f in environ mem fd/0 maps; do \
             cat /proc/$p/$f > /dev/null 2>&1 && echo read $p $f; done; done; \
             grep NoNewPrivs /proc/self/status; grep CapEff /proc/self/status"
        );
        let result = attempt(&grid, &shell(&script), &Tree::default()).await;
        let said = String::from_utf8_lossy(&result.stdout_raw).into_owned();
        assert!(!said.contains("read"), "{said}");
        assert!(said.contains("NoNewPrivs:\t1") && said.contains("CapEff:\t0000000000000000"), "{said}");
    }
}
