//! From an input tree to an input root, and what becomes of that root when its action is done.
//!
//! A root that an earlier action left is taken where it helps. Neighbours: `stage` lays trees out and keeps those
//! that nobody uses, `cache` holds the files, `workspace` the directory.

use std::path::Path;
use std::sync::Arc;

use grid_core::Digest;
use rustix::fd::OwnedFd;

use super::assignment::Assignment;
use super::demands::Demands;
use super::workspace::{self, Workspace};
use super::{Executor, blocking};
use crate::cache::FileKey;
use crate::error::WorkerError;
use crate::stage::spare::{Place, TreePins};
use crate::stage::{InputTree, Layout, SpareTree, SpareTrees, lay_out};
use crate::upload::declared::Declared;

/// What a command that has the input root as `/` finds a directory for temporary files at.
const TMP: &str = "tmp";

/// An action's directory with its inputs.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) workspace: Workspace,
    /// Whether inputs or outputs lie in the root's `tmp`.
    pub(super) has_own_tmp: bool,
    /// How the tree was laid out, where it may become spare.
    layout: Option<Layout>,
    pins: TreePins,
    generation: u64,
}

/// Trees over each other, and what was laid out before them.
struct Layers {
    trees: Vec<Arc<InputTree>>,
    before: Option<Layout>,
    parents: Vec<std::path::PathBuf>,
}

impl Executor {
    /// Fetches what is missing of `inputs`, and lays them out.
    pub(super) async fn stage(
        &self,
        assignment: &Assignment,
        inputs: InputTree,
        demands: &Demands,
        declared: &Declared,
    ) -> Result<Staged, WorkerError> {
        let generation = self.spares.generation();
        // What a command owns, it can change; and layers can't be told from each other afterwards.
        let may_be_spare = self.cache.links() && demands.uid.is_none() && demands.chroot.is_none();
        let spare = may_be_spare.then(|| self.spares.take(&inputs)).flatten();
        let mut trees = vec![Arc::new(inputs)];
        if let Some(root) = demands.chroot {
            trees.insert(0, Arc::new(self.trees.fetch(root).await?));
        }
        let (place, before, mut pins) = match spare {
            Some(SpareTree { place, layout, pins }) => (Some(place), Some(layout), pins),
            None => (None, None, TreePins::new()),
        };
        if let Err(error) = self.pin(&trees, &mut pins).await {
            // Nothing happened to it yet.
            if let (Some(place), Some(layout)) = (place, before) {
                self.spares.keep(SpareTree { place, layout, pins }, generation);
            }
            return Err(error);
        }
        let parents: Vec<_> = declared.parents().into_iter().map(Path::to_owned).collect();
        let action = &assignment.action_digest;
        let reused = before.is_some();
        let layers = Layers { trees: trees.clone(), before, parents: parents.clone() };
        let mut staged = self.try_stage(action, place.as_ref(), layers).await;
        if let (true, Err(error)) = (reused, &staged) {
            tracing::warn!(%error, "a spare tree can't be used");
            let layers = Layers { trees: trees.clone(), before: None, parents };
            staged = self.try_stage(action, None, layers).await;
        }
        let (workspace, layout) = staged?;
        let has_own_tmp = declared.parents().iter().any(|parent| parent.starts_with(TMP))
            || trees.iter().any(|tree| tree.holds_something_in(TMP));
        pins.retain(|digest, _| trees.iter().any(|tree| tree.directories.contains_key(digest)));
        Ok(Staged { workspace, has_own_tmp, layout: layout.filter(|_| may_be_spare), pins, generation })
    }

    async fn try_stage(
        &self,
        action: &Digest,
        place: Option<&Place>,
        layers: Layers,
    ) -> Result<(Workspace, Option<Layout>), WorkerError> {
        let workspace = self.workspaces.create(action, place)?;
        let (cache, root) = (self.cache.clone(), workspace.root());
        let layout = blocking(move || {
            let Layers { trees, mut before, parents } = layers;
            let mut layout = None;
            for tree in &trees {
                layout = Some(lay_out(tree, clone(&root)?, before.take(), &cache)?);
            }
            parents.iter().try_for_each(|parent| workspace::make_parents(&root, parent))?;
            Ok(layout)
        });
        let layout = layout.await?;
        Ok((workspace, layout))
    }

    /// Has the files of all directories in the cache that are not pinned yet. Spare trees go where they keep so
    /// much there that there is no room.
    pub(super) async fn pin(&self, trees: &[Arc<InputTree>], pins: &mut TreePins) -> Result<(), WorkerError> {
        let lacking: Vec<(Digest, Vec<FileKey>)> = trees
            .iter()
            .flat_map(|tree| &tree.directories)
            .filter(|(digest, _)| !pins.contains_key(*digest))
            .map(|(digest, listing)| (*digest, listing.keys().collect()))
            .collect();
        let keys = lacking.iter().flat_map(|(_, keys)| keys.iter().copied()).collect();
        let fresh = self.cache.acquire(keys).await?;
        let (digests, parts): (Vec<_>, Vec<_>) = lacking.into_iter().unzip();
        pins.extend(digests.into_iter().zip(fresh.divide(parts)));
        while self.cache.is_over() && (self.spares.give_up_one() || self.residents.give_up_one()) {}
        Ok(())
    }

    /// Keeps the input root of an action that is done, where that is worth it; nobody waits for it.
    pub(super) fn keep(&self, staged: Staged) {
        let Staged { workspace, layout, pins, generation, .. } = staged;
        let Some(layout) = layout.filter(|layout| SpareTrees::is_worth(&layout.tree)) else { return };
        let (cache, spares) = (self.cache.clone(), self.spares.clone());
        tokio::task::spawn_blocking(move || {
            let place = spares.place();
            let restored = workspace
                .retire(&place)
                .map_err(|error| WorkerError::local("clearing an action's directory", error))
                .and_then(|root| lay_out(&layout.tree.clone(), root, Some(layout), &cache));
            match restored {
                Ok(layout) => spares.keep(SpareTree { place, layout, pins }, generation),
                Err(error) => tracing::debug!(%error, "an input tree is not kept"),
            }
        });
    }
}

fn clone(root: &OwnedFd) -> Result<OwnedFd, WorkerError> {
    root.try_clone().map_err(|error| WorkerError::local("the input root", error))
}
