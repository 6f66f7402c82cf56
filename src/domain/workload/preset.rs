//! What is known of issuers in the wild: where they write scopes, which claims name somebody for ever and which can
//! be taken by somebody else later, and what is odd about them.

use serde_json::Value;

use crate::domain::claim::Claims;

/// A kind of issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Jobs of GitHub Actions.
    GithubActions,
    /// Jobs of GitLab CI.
    Gitlab,
    /// Service accounts of Google Cloud.
    Google,
    /// Microsoft Entra ID, tokens of version 1.0 and 2.0.
    Entra,
    /// Machine-to-machine applications of Auth0.
    Auth0,
    /// Service accounts of an EKS cluster.
    AwsIrsa,
    /// Service accounts of any other Kubernetes cluster.
    Kubernetes,
    /// Nodes of a tailnet.
    Tsiam,
}

/// What is known of a preset.
#[derive(Debug, Clone, Copy)]
pub struct Traits {
    /// As the configuration names it.
    pub name: &'static str,
    /// The issuer, where there is one for everybody.
    pub issuer: Option<&'static str>,
    /// Where it writes scopes.
    pub scopes_claim: &'static str,
    /// Claims that name somebody for ever.
    pub ids: &'static [&'static str],
    /// Claims that name somebody until somebody else takes the name.
    pub names: &'static [&'static str],
    /// Whether anybody in the world can get a token of it.
    pub is_public: bool,
    /// Claims that tell a person who is calling, the most telling first.
    pub called: &'static [&'static str],
    /// What the audit log keeps of a token that is exchanged, and the claim that holds it.
    pub recorded: &'static [(&'static str, &'static str)],
}

/// What is kept of tokens of an issuer without a preset.
pub const RECORDED: &[(&str, &str)] = &[("repository", "repository"), ("run", "run_id"), ("commit", "sha")];
const SERVICE_ACCOUNT: &str = "/kubernetes.io/serviceaccount/uid";
const POD: &[(&str, &str)] = &[("namespace", "/kubernetes.io/namespace"), ("pod", "/kubernetes.io/pod/name")];

impl Preset {
    /// All of them, in the order in which messages list them.
    pub const EVERY: [Self; 8] = [
        Self::GithubActions,
        Self::Gitlab,
        Self::Google,
        Self::Entra,
        Self::Auth0,
        Self::AwsIrsa,
        Self::Kubernetes,
        Self::Tsiam,
    ];

    /// The preset of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|preset| preset.traits().name == name)
    }

    /// What is known of it.
    pub const fn traits(self) -> &'static Traits {
        match self {
            Self::GithubActions => &Traits {
                name: "github-actions",
                issuer: Some("https://token.actions.githubusercontent.com"),
                scopes_claim: "scope",
                ids: &["repository_id", "repository_owner_id", "enterprise_id"],
                names: &["sub", "repository", "repository_owner", "enterprise", "workflow_ref"],
                is_public: true,
                called: &["repository"],
                recorded: &[
                    ("repository", "repository"),
                    ("run", "run_id"),
                    ("commit", "sha"),
                    ("workflow", "workflow_ref"),
                    ("environment", "environment"),
                ],
            },
            Self::Gitlab => &Traits {
                name: "gitlab",
                issuer: Some("https://gitlab.com"),
                scopes_claim: "scope",
                ids: &["project_id", "namespace_id"],
                names: &["sub", "project_path", "namespace_path", "ci_config_ref_uri"],
                is_public: true,
                called: &["project_path"],
                recorded: &[
                    ("repository", "project_path"),
                    ("run", "pipeline_id"),
                    ("job", "job_id"),
                    ("commit", "sha"),
                    ("environment", "environment"),
                ],
            },
            Self::Google => &Traits {
                name: "google",
                issuer: Some("https://accounts.google.com"),
                scopes_claim: "scope",
                ids: &["sub", "azp"],
                names: &["email"],
                is_public: true,
                called: &["email"],
                recorded: &[("account", "email")],
            },
            Self::Entra => &Traits {
                name: "entra",
                issuer: None,
                scopes_claim: "roles",
                ids: &["oid", "sub", "appid", "azp"],
                names: &["upn", "unique_name", "preferred_username", "email", "app_displayname"],
                is_public: false,
                called: &["app_displayname", "appid", "azp", "oid"],
                recorded: &[("application", "appid"), ("application", "azp"), ("object", "oid")],
            },
            Self::Auth0 => &Traits {
                name: "auth0",
                issuer: None,
                scopes_claim: "scope",
                ids: &["sub", "azp", "client_id"],
                names: &["email", "nickname"],
                is_public: false,
                called: &["azp"],
                recorded: &[("application", "azp")],
            },
            Self::AwsIrsa => &Traits {
                name: "aws-irsa",
                issuer: None,
                scopes_claim: "scope",
                ids: &["sub", SERVICE_ACCOUNT],
                names: &["/kubernetes.io/serviceaccount/name"],
                is_public: false,
                called: &["sub"],
                recorded: POD,
            },
            Self::Kubernetes => &Traits {
                name: "kubernetes",
                issuer: None,
                scopes_claim: "scope",
                ids: &["sub", SERVICE_ACCOUNT],
                names: &["/kubernetes.io/serviceaccount/name"],
                is_public: false,
                called: &["sub"],
                recorded: POD,
            },
            Self::Tsiam => &Traits {
                name: "tsiam",
                issuer: None,
                scopes_claim: "scope",
                ids: &["sub"],
                names: &["hostname", "name"],
                is_public: false,
                called: &["hostname", "name"],
                recorded: &[("node", "sub")],
            },
        }
    }

    /// More issuers of the same keys, beside the configured one.
    pub fn other_issuer(self, configured: &str) -> Option<String> {
        let tenant = super::condition::entra_tenant(configured).filter(|_| self == Self::Entra)?;
        Some(format!("https://sts.windows.net/{tenant}/"))
    }

    /// The preset that goes without saying for an issuer: Entra's tokens of both versions belong together.
    pub fn implied_by(issuer: &str) -> Option<Self> {
        issuer.starts_with("https://login.microsoftonline.com/").then_some(Self::Entra)
    }
}

/// The ways in which GitHub may write one subject: `repo:acme/app:…`, and with the immutable ids
/// `repo:acme@1/app@2:…` (the default of repositories made, renamed or moved after 2026-07-15).
pub(super) fn spellings(sub: &str, claims: &Claims) -> Vec<String> {
    let mut all = vec![sub.to_owned()];
    let Some(read) = Subject::read(sub) else { return all };
    let id = |claim: &str| match claims.get(claim) {
        Some(Value::String(text)) => Some(text.clone()),
        _ => None,
    };
    let Subject { owner, repository, context } = read;
    all.push(format!("repo:{}/{}{context}", owner.0, repository.0));
    let owner_id = owner.1.map(str::to_owned).or_else(|| id("repository_owner_id"));
    let repository_id = repository.1.map(str::to_owned).or_else(|| id("repository_id"));
    if let (Some(owner_id), Some(repository_id)) = (owner_id, repository_id) {
        all.push(format!("repo:{}@{owner_id}/{}@{repository_id}{context}", owner.0, repository.0));
    }
    all
}

struct Subject<'s> {
    owner: (&'s str, Option<&'s str>),
    repository: (&'s str, Option<&'s str>),
    /// With the colon before it.
    context: &'s str,
}

impl<'s> Subject<'s> {
    fn read(sub: &'s str) -> Option<Self> {
        let rest = sub.strip_prefix("repo:")?;
        let (place, context) = rest.find(':').map_or((rest, ""), |at| rest.split_at(at));
        let (owner, repository) = place.split_once('/')?;
        Some(Self { owner: named(owner)?, repository: named(repository)?, context })
    }
}

/// `acme@12` → name and id.
fn named(text: &str) -> Option<(&str, Option<&str>)> {
    let sound = |name: &str| !name.is_empty() && !name.contains(['@', '/']);
    match text.split_once('@') {
        None => sound(text).then_some((text, None)),
        Some((name, id)) => {
            let is_id = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
            (sound(name) && is_id).then_some((name, Some(id)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::{
        claim::ClaimPath,
        workload::{Condition, Test},
    };

    const OLD: &str = "repo:acme/app:environment:prod";
    const NEW: &str = "repo:acme@7/app@42:environment:prod";

    fn holds(rule: &str, sub: &str) -> bool {
        let claims =
            json!({"sub": sub, "repository_id": "42", "repository_owner_id": "7"}).as_object().unwrap().clone();
        let condition = Condition { claim: ClaimPath::new("sub"), test: Test::OneOf(vec![json!(rule)]) };
        condition.holds(Some(Preset::GithubActions), &claims)
    }

    #[test]
    fn a_rule_holds_for_both_forms_of_githubs_subject() {
        for (rule, sub) in [(OLD, OLD), (OLD, NEW), (NEW, OLD), (NEW, NEW)] {
            assert!(holds(rule, sub), "{rule} {sub}");
        }
        for (rule, sub) in [
            ("repo:acme@8/app@42:environment:prod", OLD),
            ("repo:acme@7/app@43:environment:prod", NEW),
            ("repo:acme@7/app@43:environment:prod", OLD),
            (OLD, "repo:acme/app:environment:prod2"),
            (OLD, "repo:acme/app@42@1:environment:prod"),
            (OLD, "repo:acme/app/x:environment:prod"),
            (OLD, "repo:acme@x/app@42:environment:prod"),
            (NEW, "repo:acme@9/app@42:environment:prod"),
        ] {
            assert!(!holds(rule, sub), "{rule} {sub}");
        }
    }

    #[test]
    fn what_is_forbidden_is_forbidden_in_both_forms() {
        for sub in [OLD, NEW] {
            let claims = json!({"sub": sub, "repository_id": "42", "repository_owner_id": "7"});
            let claims = claims.as_object().unwrap();
            for unwanted in [OLD, NEW] {
                let test = Test::NoneOf(vec![json!(unwanted)]);
                let condition = Condition { claim: ClaimPath::new("sub"), test };
                assert!(!condition.holds(Some(Preset::GithubActions), claims), "{sub} {unwanted}");
                assert_eq!(condition.holds(None, claims), sub != unwanted);
            }
        }
    }

    #[test]
    fn entra_has_two_issuers_for_one_tenant() {
        let other = |issuer: &str| Preset::Entra.other_issuer(issuer);
        assert_eq!(other("https://login.microsoftonline.com/t-1/v2.0").unwrap(), "https://sts.windows.net/t-1/");
        assert_eq!(other("https://login.microsoftonline.com/common"), None);
        assert_eq!(Preset::Auth0.other_issuer("https://login.microsoftonline.com/t-1/v2.0"), None);
    }

    #[test]
    fn every_preset_is_found_by_its_name() {
        for preset in Preset::EVERY {
            assert_eq!(Preset::named(preset.traits().name), Some(preset));
        }
    }
}
