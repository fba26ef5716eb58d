//! Headers that tell who comes.

use base64::Engine;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::cli::Failure;
use crate::config::secret::Secret;
use crate::config::sink_options::Options;

enum Scheme {
    Bearer,
    Basic {
        user: String,
    },
    /// The secret and nothing else.
    Key,
}

/// A header with a secret.
struct Credential {
    name: HeaderName,
    scheme: Scheme,
    /// The option it is from.
    key: &'static str,
    secret: Secret,
}

/// What a request carries to show who comes.
pub struct Credentials(Vec<Credential>);

impl Credentials {
    /// `user_info`: user and password that stood in the endpoint.
    pub fn of(options: &Options<'_>, user_info: Option<String>) -> Result<Credentials, Failure> {
        let mut all = Vec::new();
        let mut add = |name, scheme, key, secret| all.push(Credential { name, scheme, key, secret });
        let user = options.text("basic_user")?;
        let bearer = options.secret("bearer")?;
        let has_bearer = match &bearer {
            Some(secret) => !options.reveal("bearer", secret)?.is_empty(),
            None => false,
        };
        if has_bearer && (user.is_some() || user_info.is_some()) {
            return Err(options.refuse("bearer", "there is a user for Basic as well; choose one"));
        }
        match (user, user_info, bearer) {
            (Some(user), ..) => {
                let password = options.secret("basic_password")?.unwrap_or(Secret::Given(String::new()));
                add(header::AUTHORIZATION, Scheme::Basic { user }, "basic_password", password);
            }
            (None, Some(pair), _) => {
                let (user, password) = pair.split_once(':').unwrap_or((&pair, ""));
                let scheme = Scheme::Basic { user: user.to_owned() };
                add(header::AUTHORIZATION, scheme, "endpoint", Secret::Given(password.to_owned()));
            }
            (None, None, Some(secret)) => add(header::AUTHORIZATION, Scheme::Bearer, "bearer", secret),
            (None, None, None) => {}
        }
        if let Some(secret) = options.secret("api_key")? {
            let name = options.text("api_key_header")?.unwrap_or_default();
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|error| options.refuse("api_key_header", error))?;
            add(name, Scheme::Key, "api_key", secret);
        }
        let credentials = Credentials(all);
        for credential in &credentials.0 {
            let secret = options.reveal(credential.key, &credential.secret)?;
            credential.value(&secret).map_err(|why| options.refuse(credential.key, why))?;
        }
        Ok(credentials)
    }

    /// Reads what stands in files: a token may live for an hour only.
    pub fn add_to(&self, headers: &mut HeaderMap) -> Result<(), String> {
        for credential in &self.0 {
            let of_key = |why| format!("{}: {why}", credential.key);
            let secret = credential.secret.read()?;
            if let Some(value) = credential.value(&secret).map_err(of_key)? {
                headers.insert(credential.name.clone(), value);
            }
        }
        Ok(())
    }
}

impl Credential {
    /// Nothing where there is no secret.
    fn value(&self, secret: &str) -> Result<Option<HeaderValue>, &'static str> {
        let text = match &self.scheme {
            Scheme::Basic { user } => {
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{secret}"));
                format!("Basic {pair}")
            }
            Scheme::Bearer | Scheme::Key if secret.is_empty() => return Ok(None),
            Scheme::Bearer => format!("Bearer {secret}"),
            Scheme::Key => secret.to_owned(),
        };
        // The text may be a secret: it isn't shown.
        let mut value = HeaderValue::from_str(&text).map_err(|_| "holds what no header can, such as a line break")?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}
