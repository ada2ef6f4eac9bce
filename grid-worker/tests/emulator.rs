//! A runner that is not ours, from `examples/qemu-runner`: programs of another processor through the real worker.

#[cfg(test)]
mod grid;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::process::Command as Process;

    use grid_proto::reapi::Command;
    use tempfile::TempDir;

    use super::grid::Grid;
    use super::grid::tree::Tree;

    const SAYS: &str = "hello from aarch64\n";
    const EXIT_CODE: u32 = 7;

    /// An AArch64 program for Linux, without any toolchain: it writes [`SAYS`] and ends with [`EXIT_CODE`].
    fn program() -> Vec<u8> {
        let length = u32::try_from(SAYS.len()).unwrap();
        let movz = |register: u32, value: u32| 0xD280_0000 | value << 5 | register;
        let svc = 0xD400_0001;
        // write(1, text, length); exit(EXIT_CODE). The text follows the eight instructions: 28 bytes after the second.
        let adr_x1 = 0x1000_0001 | (28 >> 2) << 5;
        let code =
            [movz(0, 1), adr_x1, movz(2, length), movz(8, 64), svc, movz(0, EXIT_CODE), movz(8, 93), svc];
        let mut body: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
        body.extend(SAYS.as_bytes());
        let (base, headers) = (0x40_0000_u64, 64 + 56);
        let size = u64::try_from(headers + body.len()).unwrap();
        let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        // An executable (2) for EM_AARCH64 (183), version 1.
        elf.extend([2_u16, 183].iter().flat_map(|half| half.to_le_bytes()));
        elf.extend(1_u32.to_le_bytes());
        let entry = base + u64::try_from(headers).unwrap();
        elf.extend([entry, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
        elf.extend(0_u32.to_le_bytes());
        elf.extend([64_u16, 56, 1, 64, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
        // One segment to load (1), readable and executable (5).
        elf.extend([1_u32, 5].iter().flat_map(|word| word.to_le_bytes()));
        elf.extend([0, base, base, size, size, 0x1000].iter().flat_map(|word: &u64| word.to_le_bytes()));
        elf.extend(body);
        elf
    }

    /// Debian's emulator: the installed one, else that of the package, unpacked here.
    fn emulator(directory: &Path) -> PathBuf {
        let installed = PathBuf::from("/usr/bin/qemu-aarch64-static");
        if installed.is_file() {
            return installed;
        }
        let script = "apt-get download -q qemu-user-static && dpkg -x qemu-user-static_*.deb .";
        let done = Process::new("sh").args(["-c", script]).current_dir(directory).status().unwrap();
        assert!(done.success(), "Debian's qemu-user-static is needed: {script}");
        directory.join("usr/bin/qemu-aarch64-static")
    }

    /// The example's program. A run of all tests has built it; for a run of this one alone that is done here.
    fn example() -> PathBuf {
        let test = std::env::current_exe().unwrap();
        let folder = test.ancestors().nth(2).unwrap();
        let program = folder.join("examples/qemu-runner");
        if !program.is_file() {
            let profile = folder.file_name().unwrap().to_str().unwrap().replace("debug", "dev");
            let words = ["build", "--locked", "-p", "grid-worker", "--example", "qemu-runner", "--profile"];
            let mut cargo = Process::new(env!("CARGO"));
            cargo.args(words).arg(profile).arg("--target-dir").arg(folder.parent().unwrap());
            assert!(cargo.status().unwrap().success(), "the example can't be built");
        }
        program
    }

    fn open_directory() -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        directory
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_program_of_another_processor_runs() {
        let directory = open_directory();
        let qemu = emulator(directory.path());
        // Where every user can execute it.
        let runner = directory.path().join("qemu-runner");
        std::fs::copy(example(), &runner).unwrap();
        let grid = Grid::with_runner(
            &runner,
            &["--qemu", qemu.to_str().unwrap()],
            &["--property", "ISA=aarch64", "--probe", "none"],
        )
        .await;
        let inputs = Tree::default().program("bin/hello", program());
        let command = Command { arguments: vec!["bin/hello".to_owned()], ..Command::default() };
        let (status, result) = grid.run(&command, &inputs).await;
        assert_eq!(status.code, 0, "{}", status.message);
        assert_eq!(std::str::from_utf8(&result.stdout_raw), Ok(SAYS), "{result:?}");
        assert_eq!(u32::try_from(result.exit_code), Ok(EXIT_CODE));
        grid.swept().await;
        let report = grid.server.state.lock().report.clone();
        let properties = &report.worker.unwrap().devices[0].properties;
        let isa: Vec<_> = properties.iter().filter(|p| p.key == "ISA").map(|p| p.value.as_str()).collect();
        assert_eq!(isa, ["aarch64"], "what this machine is, is not offered");
    }
}
