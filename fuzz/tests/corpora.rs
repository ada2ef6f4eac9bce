//! Every input of every corpus, tried once: what fuzzing found stays found.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use grid_fuzz::TARGETS;

fn try_all(folder: &Path, run: fn(&[u8])) -> usize {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in &files {
        // Shown where the input fails.
        println!("{}", file.display());
        run(&std::fs::read(file).unwrap());
    }
    files.len()
}

#[test]
fn no_input_of_a_corpus_fails() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for target in TARGETS {
        let tried = try_all(&root.join("fuzz/corpus").join(target.name), target.run);
        assert!(tried >= 3, "the corpus of {} has {tried} inputs", target.name);
        for seeds in target.seeds {
            assert!(try_all(&root.join(seeds), target.run) > 0);
        }
    }
}

#[test]
fn every_corpus_has_its_target() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut names: Vec<_> =
        std::fs::read_dir(corpora).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, TARGETS.iter().map(|target| target.name).collect::<Vec<_>>());
}
