//! The commands, and what each gives by the Remote Execution API 2.13.

use grid_proto::reapi::Command;
use grid_proto::reapi::command::{EnvironmentVariable, OutputDirectoryFormat};

use crate::reapi::{Tree, Work};

/// A command of the shell.
pub(super) struct Case {
    /// The script, as it is shown too.
    pub(super) name: &'static str,
    pub(super) outputs: &'static [&'static str],
    /// What the result is.
    pub(super) gives: &'static str,
    edit: fn(&mut Work),
}

const fn case(name: &'static str, outputs: &'static [&'static str], gives: &'static str) -> Case {
    Case { name, outputs, gives, edit: |_| {} }
}

impl Case {
    const fn with(self, edit: fn(&mut Work)) -> Self {
        Self { edit, ..self }
    }

    /// The action.
    pub(super) fn work(&self) -> Work {
        let variable = EnvironmentVariable { name: "PATH".to_owned(), value: "/usr/bin:/bin".to_owned() };
        let command = Command {
            arguments: ["/bin/sh", "-c", self.name].map(str::to_owned).to_vec(),
            output_paths: self.outputs.iter().map(|path| (*path).to_owned()).collect(),
            environment_variables: vec![variable],
            ..Command::default()
        };
        let inputs = Tree::default().file("in/file", "old\n");
        let mut work = Work { command, inputs, properties: Vec::new(), seconds: Some(30) };
        (self.edit)(&mut work);
        work
    }
}

/// All of them.
pub(super) const CASES: &[Case] = &[
    case("echo a > out", &["out"], "file out `a`"),
    case(": > out", &["out"], "file out ``"),
    case("echo a > out; chmod 755 out", &["out"], "program out `a`"),
    case("true", &["out"], "nothing"),
    case("echo a > x/y/out", &["x/y/out"], "file x/y/out `a`"),
    case("echo a > b; echo b > a", &["a", "b"], "file a `b`; file b `a`"),
    case("mkdir -p d/e; echo a > d/e/f; echo b > d/g", &["d"], "directory d (file g, e/, file e/f)"),
    case("mkdir -p d/e", &["d"], "directory d (e/)"),
    case("mkdir d", &["d"], "directory d ()"),
    case("rm in/file; echo new > in/file", &["in/file"], "file in/file `new`"),
    case("true", &["in/file"], "file in/file `old`"),
    case("ln -s in/file out", &["out"], "link out → in/file"),
    case("ln -s /etc/hostname out", &["out"], "link out → /etc/hostname"),
    case("ln -s nowhere out", &["out"], "link out → nowhere"),
    case("ln -s ../../outside out", &["out"], "link out → ../../outside"),
    case("ln -s in out", &["out"], "link out → in"),
    case(
        "mkdir d; ln -s /absolute d/a; ln -s ../x d/b",
        &["d"],
        "directory d (link a → /absolute, link b → ../x)",
    ),
    case("echo a > out; exit 3", &["out"], "exit code 3; file out `a`"),
    case("echo a > out; kill -9 $$", &["out"], "exit code 137; file out `a`"),
    case("echo a > out; kill -15 $$", &["out"], "exit code 143; file out `a`"),
    case(
        "echo a > out; exec sleep 100 # for 2 seconds",
        &["out"],
        "DeadlineExceeded; exit code 137; file out `a`",
    )
    .with(|work| work.seconds = Some(2)),
    case("pwd | sed 's,.*/,,'; echo a > out # in in/", &["out"], "says `in`; file out `a`")
        .with(|work| work.command.working_directory = "in".to_owned()),
    case("echo a > ../out # in in/", &["../out"], "file ../out `a`")
        .with(|work| work.command.working_directory = "in".to_owned()),
    case("sh, found by PATH", &[], "says `found`").with(|work| {
        work.command.arguments = ["sh", "-c", "echo found"].map(str::to_owned).to_vec();
    }),
    case("a program that is not there", &[], "exit code 127")
        .with(|work| work.command.arguments = vec!["./missing".to_owned()]),
    case("a file without its executable bit", &[], "exit code 126")
        .with(|work| work.command.arguments = vec!["in/file".to_owned()]),
    case("echo \"$A\"", &[], "says `a b`").with(|work| {
        let variable = EnvironmentVariable { name: "A".to_owned(), value: "a b".to_owned() };
        work.command.environment_variables.push(variable);
    }),
    case("echo a > out # output_files", &[], "file out `a`").with(|work| {
        work.command.output_files.push("out".to_owned());
    }),
    case("mkdir d; echo a > d/f # output_directories", &[], "directory d (file f)").with(|work| {
        work.command.output_directories.push("d".to_owned());
    }),
    case("mkdir d; echo a > d/f # as Tree and Directory", &["d"], "directory d (file f) with a Directory")
        .with(|work| work.command.output_directory_format = OutputDirectoryFormat::TreeAndDirectory.into()),
    case("mkdir d; echo a > d/f # as Directory", &["d"], "directory d () with a Directory")
        .with(|work| work.command.output_directory_format = OutputDirectoryFormat::DirectoryOnly.into()),
    case(
        "echo a > out; chmod 750 out; touch -d @1000 out # properties",
        &["out"],
        "program out `a` mode 750 of second 1000",
    )
    .with(|work| {
        work.command.output_node_properties = ["mtime", "unix_mode"].map(str::to_owned).to_vec();
    }),
    case("mkfifo out", &["out"], "InvalidArgument"),
    case("mkdir d; echo > d/$(printf '\\377')", &["d"], "InvalidArgument"),
    case(
        "mkdir d; cd d; mkdir 1 2; echo a > 1/f; echo a > 2/f",
        &["d"],
        "directory d (1/, file 1/f, 2/, file 2/f)",
    ),
];
