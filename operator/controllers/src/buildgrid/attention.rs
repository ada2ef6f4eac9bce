//! The link to a grid's Fleet service: as the wish has it, and where there is none to go by, since the grid is paused or something
//! is wrong with it, as its servers are. Its pools are scaled all the same.

use grid_operator_api::BuildGrid;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::hibernation::is_asleep;
use super::observe::World;
use super::roles::{self, Role};
use super::status;
use super::tls::Secrets;
use super::tokens;
use super::validate::Grid;
use crate::context::Context;
use crate::fleet::{Endpoint, Key, Wanted, declare};
use crate::mutual_tls::{Identity, server_secret};
use crate::names::{Names, Wire};
use crate::workload::Progress;

/// Keeps the link to a grid whose wish is valid, where it has one.
pub(super) fn attend(grid: &Grid<'_>, world: &World, secrets: &Secrets, context: &Context) {
    let key = grid.key();
    if !grid.spec.execution.enabled || grid.sleep.has_begun {
        context.fleets.forget(&key);
        return;
    }
    if grid.mutual_tls.is_some() && secrets.own.is_none() {
        // The certificate is still to come; a pass looks again.
        return;
    }
    let endpoint = Endpoint {
        url: roles::fleet_url(&key.name, &key.namespace, grid.spec),
        token: secrets.tokens.admin().to_owned(),
        identity: secrets.own.clone(),
    };
    let is_served = status::is_served(grid, &world.owned);
    let declaration = declare(&key, &world.pools, grid.sleep.is_wanted);
    context.fleets.attend(&key, Wanted { endpoint, declaration, is_served });
}

/// Keeps the link to a grid that is left as it is, or makes one to its servers as they are.
pub(super) fn attend_as_it_is(grid: &BuildGrid, world: &World, context: &Context) {
    let key = Key::new(&grid.namespace().unwrap_or_default(), &grid.name_any());
    let Some(endpoint) = endpoint(grid, &key, world) else { return };
    let is_to_sleep = is_asleep(grid, context.mint.now()).unwrap_or_default();
    let declaration = declare(&key, &world.pools, is_to_sleep);
    context.fleets.attend_still(&key, Wanted { endpoint, declaration, is_served: true });
}

/// Where a server is that serves Fleet now, and what was given to the operator to show it.
fn endpoint(grid: &BuildGrid, key: &Key, world: &World) -> Option<Endpoint> {
    let names = Names(&key.name);
    let is_served =
        |role: &Role| Progress::of(&world.owned, &names.component(role.component())).available > 0;
    let role = [Role::Server, Role::Execution].into_iter().find(is_served)?;
    let token = tokens::shown(world.owned.typed::<Secret>(&names.credentials()).as_ref())?;
    let mutual_tls = grid.spec.mutual_tls.as_ref();
    let identity = match mutual_tls.map(|wish| server_secret(&key.name, wish)) {
        Some(secret) => {
            let ours = world.owned.typed::<Secret>(&secret);
            Some(Identity::in_secret(world.secrets.get(&secret).or(ours.as_ref()))?)
        }
        None => None,
    };
    let url = names.component_url(role.component(), &key.namespace, Wire::of(mutual_tls));
    Some(Endpoint { url, token, identity })
}
