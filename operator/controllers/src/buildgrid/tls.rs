//! The secrets that the operator makes for a grid: tokens, and the certificates of its way in and of its parts.

use k8s_openapi::api::core::v1::Secret;

use super::observe::World;
use super::roles::Role;
use super::tokens::Tokens;
use super::validate::{Grid, Tls};
use crate::certificates::{Authority, Pair, Purpose};
use crate::context::Mint;
use crate::error::Result;
use crate::mutual_tls::{Identity, MutualTls, PartsPairs};

/// Secrets of a grid, kept or new.
#[derive(Clone, Debug)]
pub(crate) struct Secrets {
    pub(crate) tokens: Tokens,
    /// Of the way in, where the operator makes it.
    pub(crate) certificate: Option<(Authority, Pair)>,
    /// Of the parts, where the operator makes them.
    pub(crate) parts: Option<PartsPairs>,
    /// What the operator shows to the grid's servers where they ask for it, once that is there.
    pub(crate) own: Option<Identity>,
}

/// What exists, completed by what is missing.
///
/// # Errors
/// Where a certificate can't be made for the host.
pub(crate) fn secrets(grid: &Grid<'_>, world: &World, mint: &dyn Mint) -> Result<Secrets> {
    let owned = |name: &str| world.owned.typed::<Secret>(name);
    let tokens = owned(&grid.names().credentials());
    let tokens = Tokens::of(tokens.as_ref(), grid.rotation.as_deref(), mint);
    let certificate = match (&grid.tls, &grid.spec.ingress) {
        (Some(Tls::SelfSigned { seconds }), Some(ingress)) => {
            let now = mint.now();
            let authority = Authority::of(owned(&grid.names().authority()).as_ref(), &grid.owner.name, now)?;
            let hosts = vec![ingress.host.clone()];
            let purpose = Purpose { hosts, seconds: *seconds, is_server: true, is_client: false };
            let current = owned(&grid.names().certificate());
            let pair = authority.pair(current.as_ref(), &purpose, now)?;
            Some((authority, pair))
        }
        _ => None,
    };
    let components = Role::of(grid.spec.topology).iter().map(|role| role.component());
    let parts = match &grid.mutual_tls {
        Some(mutual) => mutual.pairs(&grid.owner, components, &world.owned, mint.now())?,
        None => None,
    };
    let own = match (&grid.mutual_tls, &parts) {
        (_, Some(parts)) => Some(parts.server.identity()),
        (Some(MutualTls { server, .. }), None) => {
            Identity::in_secret(world.secrets.get(server).or(owned(server).as_ref()))
        }
        (None, None) => None,
    };
    Ok(Secrets { tokens, certificate, parts, own })
}
