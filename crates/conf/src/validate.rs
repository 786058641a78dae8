//! Rules between options, checked when file and flags are merged.

use crate::duration;
use crate::jetstream;
use crate::operator;
use crate::options::{GLOBAL_ACCOUNT, Options};
use crate::problem::Invalid;
use crate::read::split_host_port;

/// The first rule that is broken.
pub(crate) fn check(options: &Options) -> Result<(), Invalid> {
    if options.lame_duck_grace_period >= options.lame_duck_duration {
        let show = duration::show;
        return Err(Invalid::LameDuck(
            show(options.lame_duck_grace_period),
            show(options.lame_duck_duration),
        ));
    }
    if u64::from(options.max_payload) > options.max_pending {
        return Err(Invalid::MaxPayload(options.max_payload, options.max_pending));
    }
    if options.server_name.as_ref().is_some_and(|name| name.contains(' ')) {
        return Err(Invalid::ServerName);
    }
    operator::check(options)?;
    check_no_auth_user(options)?;
    check_system_account(options)?;
    if let Some(fault) =
        options.jetstream.as_ref().and_then(|js| jetstream::domain_fault(js.domain.as_deref()?))
    {
        return Err(Invalid::Domain(fault));
    }
    if jetstream::is_on_system_account(options) {
        return Err(Invalid::JetStreamOnSystemAccount);
    }
    if let Some(address) = &options.client_advertise
        && !is_host_port(address)
    {
        return Err(Invalid::ClientAdvertise(address.clone()));
    }
    match (options.http_port, options.https_port) {
        (Some(http), Some(https)) => Err(Invalid::TwoMonitors(http, https)),
        (None, Some(_)) if options.tls.is_none() => Err(Invalid::HttpsWithoutTls),
        _ => Ok(()),
    }
}

fn check_no_auth_user(options: &Options) -> Result<(), Invalid> {
    let Some(name) = &options.no_auth_user else { return Ok(()) };
    if options.users.is_empty() && options.nkeys.is_empty() {
        return Err(Invalid::NoUsers(name.clone()));
    }
    let known =
        options.users.iter().any(|u| u.name == *name) || options.nkeys.iter().any(|u| u.nkey == *name);
    if known { Ok(()) } else { Err(Invalid::NoSuchUser(name.clone())) }
}

fn check_system_account(options: &Options) -> Result<(), Invalid> {
    let Some(name) = options.system_account.as_deref() else { return Ok(()) };
    // Named here, even `$SYS` must be among the accounts.
    if options.has_operators() {
        // Whether the resolver has it is seen when the server starts.
        return Ok(());
    }
    let known = name == GLOBAL_ACCOUNT || options.accounts.iter().any(|account| account.name == name);
    if known { Ok(()) } else { Err(Invalid::NoSystemAccount) }
}

/// Whether this is a host with or without port.
fn is_host_port(address: &str) -> bool {
    match split_host_port(address) {
        Some((_, port)) => port.trim().parse::<u16>().is_ok(),
        None => !address.is_empty() && !address.contains(':'),
    }
}
