//! Input trees that are used again: what one action did to its tree, the next one doesn't see.

#[cfg(test)]
mod grid;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::grid::tree::Tree;
    use super::grid::{Grid, is_root, shell};

    /// A tree that is large enough to be kept; `word` is in one of its files.
    fn inputs(word: &str) -> Tree {
        (0..60).fold(Tree::default().file("d0/word", word), |tree, number| {
            tree.file(&format!("d{}/f{number}", number % 4), number.to_string())
        })
    }

    /// Says all that there is, and when a directory that nobody touches changed last; then does what it can to the
    /// tree.
    const HOSTILE: &str = "find . ! -type d -exec sh -c 'echo $0 $(cat $0) $(stat -c %a $0)' {} \\; | LC_ALL=C sort; \
        stat -c 'mark %i %z' d3; \
        echo evil > d0/extra; rm d1/f1; rm d2/f2; echo evil > d2/f2; mkdir -p d1/sub/deeper; chmod 700 d1/sub; \
        mv d0/f0 d2/moved; ln -s /etc top; rm d0/word; echo evil > d0/word; chmod 0 d0/word; :";

    async fn run(grid: &Grid, number: usize, inputs: &Tree) -> (String, String) {
        // The number makes it another action.
        let (status, result) = grid.run(&shell(&format!("{HOSTILE} {number}")), inputs).await;
        assert_eq!((status.code, result.exit_code), (0, 0), "{} {result:?}", status.message);
        let said = String::from_utf8(result.stdout_raw.to_vec()).unwrap();
        let (listed, mark) = said.split_once("mark ").unwrap();
        (listed.to_owned(), mark.to_owned())
    }

    fn expected(word: &str) -> String {
        let mut lines: Vec<_> =
            (0..60).map(|number| format!("./d{}/f{number} {number} 444\n", number % 4)).collect();
        lines.push(format!("./d0/word {word} 444\n"));
        lines.sort_unstable();
        lines.concat()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_tree_is_used_again_and_is_as_new() {
        // As one user inputs are copied, and no tree is kept.
        if !is_root() {
            return;
        }
        let grid = Grid::with(&["--concurrency", "2"]).await;
        let (one, other) = (inputs("one"), inputs("other"));
        let (mut marks, mut reused) = (HashSet::new(), 0);
        for number in 0..60 {
            let (word, tree) = if number % 3 == 0 { ("other", &other) } else { ("one", &one) };
            let (listed, mark) = run(&grid, number, tree).await;
            assert_eq!(listed, expected(word), "action {number}");
            reused += usize::from(!marks.insert(mark));
            grid.swept().await;
            if reused == 3 {
                return;
            }
        }
        panic!("trees were used again {reused} times only");
    }
}
