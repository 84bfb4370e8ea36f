//! Who the process is once it has bound its sockets: `user` and `group` of the config file.

use std::{ffi::CString, io, os::unix::fs::lchown, path::Path};

use nix::{
    errno::Errno,
    unistd::{
        Gid, Group, Uid, User, getegid, geteuid, getgroups, initgroups, setegid, seteuid, setgid,
        setgroups, setuid,
    },
};
use thiserror::Error;

/// A user and a group that the process becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    user: Uid,
    group: Gid,
    /// Of a user with a name, whose further groups are those that the system knows.
    name: Option<CString>,
}

/// Why the process cannot become somebody.
#[derive(Debug, Error)]
pub(crate) enum IdentityError {
    #[error("there is no user `{0}`")]
    NoUser(String),
    #[error("there is no group `{0}`")]
    NoGroup(String),
    #[error("user {0} has no name that the system knows, so its group has to be said: add `group`")]
    NoGroupSaid(Uid),
    #[error("looking up `{name}`")]
    LookUp {
        name: String,
        #[source]
        error: Errno,
    },
    #[error(
        "only root can become user {user} and group {group}: start nethost as root, or leave out `user` and `group` and let the service manager start it as that user"
    )]
    NotRoot { user: Uid, group: Gid },
    #[error("becoming user {user} and group {group}")]
    Refused {
        user: Uid,
        group: Gid,
        #[source]
        error: Errno,
    },
    #[error("giving up root did not work: user {0} can become root again")]
    Regained(Uid),
}

impl Identity {
    /// Looks up whom the config names, by name or number; none if it names nobody. A user without a group brings its own.
    pub(crate) fn look_up(
        user: Option<&str>,
        group: Option<&str>,
    ) -> Result<Option<Self>, IdentityError> {
        if user.is_none() && group.is_none() {
            return Ok(None);
        }
        let group = group.map(group_named).transpose()?;
        let (uid, own, name) = match user {
            Some(user) => user_named(user)?,
            None => (geteuid(), None, None),
        };
        let group = match (group.or(own), user) {
            (Some(group), _) => group,
            (None, None) => getegid(),
            (None, Some(_)) => return Err(IdentityError::NoGroupSaid(uid)),
        };
        let this = Self {
            user: uid,
            group,
            name,
        };
        if geteuid().is_root() || this.is_assumed() {
            Ok(Some(this))
        } else {
            Err(IdentityError::NotRoot {
                user: uid,
                group: this.group,
            })
        }
    }

    /// Makes a socket's file this identity's, so that its permission bits mean what the operator expects. A link is not followed.
    pub(crate) fn own(&self, socket: &Path) -> io::Result<()> {
        if self.is_assumed() {
            return Ok(());
        }
        lchown(socket, Some(self.user.as_raw()), Some(self.group.as_raw()))
    }

    /// Does something as this identity, and is root again afterwards. Files that are made are this identity's, and only where it may make them.
    pub(crate) fn act<T>(&self, action: impl FnOnce() -> T) -> Result<T, IdentityError> {
        if self.is_assumed() {
            return Ok(action());
        }
        let refused = |error| IdentityError::Refused {
            user: self.user,
            group: self.group,
            error,
        };
        let groups = getgroups().map_err(refused)?;
        let (user, group) = (geteuid(), getegid());
        setgroups(&[self.group]).map_err(refused)?;
        setegid(self.group).map_err(refused)?;
        seteuid(self.user).map_err(refused)?;
        let result = action();
        seteuid(user).map_err(refused)?;
        setegid(group).map_err(refused)?;
        setgroups(&groups).map_err(refused)?;
        Ok(result)
    }

    /// Becomes it, with all threads (the C library sees to that, nptl(7)), and makes sure that there is no way back.
    pub(crate) fn assume(&self) -> Result<(), IdentityError> {
        if self.is_assumed() {
            return Ok(());
        }
        let refused = |error| IdentityError::Refused {
            user: self.user,
            group: self.group,
            error,
        };
        match &self.name {
            Some(name) => initgroups(name, self.group).map_err(refused)?,
            None => setgroups(&[self.group]).map_err(refused)?,
        }
        setgid(self.group).map_err(refused)?;
        setuid(self.user).map_err(refused)?;
        if !self.user.is_root() && setuid(Uid::from_raw(0)).is_ok() {
            return Err(IdentityError::Regained(self.user));
        }
        Ok(())
    }

    /// Returns whether the process is this already, and nothing besides.
    fn is_assumed(&self) -> bool {
        let has_others =
            || getgroups().is_ok_and(|groups| groups.iter().any(|it| it.as_raw() == 0));
        geteuid() == self.user
            && getegid() == self.group
            && (self.group.as_raw() == 0 || !has_others())
    }
}

/// A user's number, and its group and name if the system knows it.
type Found = (Uid, Option<Gid>, Option<CString>);

/// Looks up a user by name or number.
pub(crate) fn user_named(text: &str) -> Result<Found, IdentityError> {
    let look_up = |error| IdentityError::LookUp {
        name: text.to_owned(),
        error,
    };
    let found = match text.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)).map_err(look_up)?,
        Err(_) => User::from_name(text).map_err(look_up)?,
    };
    match (found, text.parse()) {
        (Some(user), _) => Ok((user.uid, Some(user.gid), CString::new(user.name).ok())),
        (None, Ok(number)) => Ok((Uid::from_raw(number), None, None)),
        (None, Err(_)) => Err(IdentityError::NoUser(text.to_owned())),
    }
}

/// Looks up a group by name or number.
pub(crate) fn group_named(text: &str) -> Result<Gid, IdentityError> {
    if let Ok(number) = text.parse() {
        return Ok(Gid::from_raw(number));
    }
    let found = Group::from_name(text).map_err(|error| IdentityError::LookUp {
        name: text.to_owned(),
        error,
    })?;
    found
        .map(|group| group.gid)
        .ok_or_else(|| IdentityError::NoGroup(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_looked_up() {
        assert_eq!(Identity::look_up(None, None).unwrap(), None);
        let root = user_named("root").unwrap();
        assert_eq!(root, user_named("0").unwrap());
        assert_eq!((root.0.as_raw(), root.1.unwrap().as_raw()), (0, 0));
        assert_eq!(group_named("root").unwrap(), group_named("0").unwrap());
        let unknown = user_named("4000000000").unwrap();
        assert_eq!(unknown, (Uid::from_raw(4_000_000_000), None, None));
        assert!(matches!(
            Identity::look_up(Some("no-such-user"), None),
            Err(IdentityError::NoUser(name)) if name == "no-such-user"
        ));
        assert!(matches!(
            Identity::look_up(None, Some("no-such-group")),
            Err(IdentityError::NoGroup(name)) if name == "no-such-group"
        ));
        assert!(matches!(
            Identity::look_up(Some("4000000000"), None),
            Err(IdentityError::NoGroupSaid(_))
        ));
    }

    #[test]
    fn whoever_is_it_already_stays_it() {
        let (user, group) = (geteuid().to_string(), getegid().to_string());
        let this = Identity::look_up(Some(&user), Some(&group))
            .unwrap()
            .unwrap();
        this.assume().unwrap();
        this.own(Path::new("/no/such/file")).unwrap();
    }
}
