# Every recorded answer of Supabase Auth and of the gateways in front of it,
# given to register and to login: what the client gets, and whether a row is
# written. The expectations are written by hand from the rules.

use UserSync::Test;
use UserSync::Contract;

my $dir = UserSync::Util::top_dir() . '/t/fixtures/supabase';
my $ada = '7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117';
my @sent = (email => 'ada@example.com');

# The words of the tables below: what they mean for register, and for login if
# that differs. Then the arguments of problem_ok, or a user.
my %means = (
    # no GoTrue code, or a 5xx: a sign-up may have happened all the same
    bad      => [[502, 'outcome_unknown', detail => qr/log in/],
        [502, 'upstream_bad_answer']],
    slow     => [[504, 'outcome_unknown', detail => qr/log in/],
        [504, 'upstream_timeout']],
    key      => [[502, 'upstream_rejected_key']],
    wrong    => [[401, 'invalid_credentials']],
    exists   => [[409, 'user_already_exists']],
    # Supabase, its edge or a hook is away; nothing was done
    away     => [[503, 'upstream_unavailable', retry_after => [4, 6]]],
    # the same, but a sign-up has its account by then
    late     => [[502, 'outcome_unknown', detail => qr/log in/],
        [503, 'upstream_unavailable', retry_after => [4, 6]]],
    # a sign-up that created no account, and says so
    none     => [[502, 'upstream_bad_answer',
        detail => qr/\ANo account was created.*try again later/],
        [502, 'upstream_bad_answer']],
    taken    => [[502, 'upstream_bad_answer',
        detail => qr/\ANo account was created.*try to log in/],
        [502, 'upstream_bad_answer']],
    # a session of that user, and a row with that e-mail
    session  => [['session', $ada, 'ada@example.com']],
    # the user without a session, for register only
    pending  => [['pending', $ada, 'ada@example.com'],
        [502, 'upstream_bad_answer']],
    # the same, and nothing is written
    unproven => [['pending', undef], [502, 'upstream_bad_answer']],
);

# Supabase's code is shown; with told() its text, too
sub refused   { return [[400, $_[0]]] }
sub forbidden { return [[403, $_[0]]] }
sub limited   { return [[429, $_[0], retry_after => $_[1]]] }
sub weak      { return [[422, 'weak_password', reasons => [@_]]] }
sub told      { return [[400, $_[0], detail => $_[1]]] }

my $minute = [48, 72];
my $company = 'Only company emails are allowed to sign up.';

my %expect = (
    # ---- GoTrue's errors of these two endpoints
    'err_invalid_credentials.v2024.json'    => 'wrong',
    'err_invalid_credentials.legacy.json'   => 'wrong',
    'err_unsupported_grant_type.v2024.json' => 'wrong',
    'err_email_not_confirmed.v2024.json'  => forbidden('email_not_confirmed'),
    'err_email_not_confirmed.legacy.json' => forbidden('email_not_confirmed'),
    'err_user_banned_login.v2024.json'    => forbidden('user_banned'),
    'err_signup_disabled.v2024.json'      => forbidden('signup_disabled'),
    'err_signup_disabled.legacy.json'     => forbidden('signup_disabled'),
    'err_email_provider_disabled_login.v2024.json'
        => forbidden('email_provider_disabled'),
    'err_email_provider_disabled_signup.v2024.json'
        => forbidden('email_provider_disabled'),
    'err_anonymous_provider_disabled.v2024.json'
        => forbidden('anonymous_provider_disabled'),
    'err_user_already_exists.v2024.json'  => 'exists',
    'err_user_already_exists.legacy.json' => 'exists',
    'err_weak_password.v2024.json'        => weak('length'),
    'err_weak_password.legacy.json'       => weak('length'),
    'err_weak_password_multi.v2024.json'
        => weak(qw(length characters pwned)),
    'err_validation_failed_email.v2024.json'  => refused('validation_failed'),
    'err_validation_failed_email.legacy.json' => refused('validation_failed'),
    'err_validation_failed_password_missing.v2024.json'
        => refused('validation_failed'),
    'err_validation_failed_password_too_long.v2024.json'
        => refused('validation_failed'),
    'err_missing_email_or_phone.v2024.json' => refused('validation_failed'),
    'err_email_address_invalid.v2024.json'
        => refused('email_address_invalid'),
    'err_email_address_not_authorized.v2024.json'
        => told('email_address_not_authorized', 'Email address '
            . '"ada@example.com" cannot be used as it is not authorized'),
    'err_captcha_failed_missing.v2024.json'  => refused('captcha_failed'),
    'err_captcha_failed_missing.legacy.json' => refused('captcha_failed'),
    'err_captcha_failed_rejected.v2024.json' => refused('captcha_failed'),
    'err_bad_json.v2024.json'                => refused('bad_json'),
    'err_request_entity_too_large.v2024.json'
        => refused('request_entity_too_large'),
    'err_hook_rejected.v2024.json'  => told('unknown', $company),
    'err_hook_rejected.legacy.json' => told('unknown', $company),
    'err_hook_timeout.v2024.json'   => 'away',
    'err_hook_unreachable.v2024.json'      => 'away',
    'err_hook_content_type.v2024.json'     => 'away',
    'err_hook_503.v2024.json'              => 'away',
    'err_hook_403.v2024.json'              => 'away',
    'err_hook_no_json.v2024.json'          => 'away',
    'err_hook_after_signup.v2024.json'     => 'late',
    'err_hook_token_no_claims.v2024.json'  => 'late',
    'err_hook_token_empty_claims.v2024.json' => 'late',
    'err_hook_token_401.v2024.json'        => 'late',
    'err_hook_panic.v2024.json'            => 'bad',
    'err_hook_send_email.v2024.json'
        => told('unknown', 'we do not mail there'),
    # a usersync-hook's
    'err_hook_token_signup.v2024.json' => [[503, 'store_unavailable',
        detail => 'The user database is not available: try again later.',
        retry_after => [4, 6]]],
    'err_hook_token_text.v2024.json' => told('unknown', 'refused'),
    'err_hook_password_reject.v2024.json' => [[401, 'invalid_credentials',
        detail => 'Too many attempts, wait a minute']],
    'err_hook_password_429.v2024.json' => [[429, 'unknown',
        detail => 'slow down', retry_after => $minute]],
    'err_over_request_rate_limit.v2024.json'
        => limited('over_request_rate_limit', $minute),
    'err_over_request_rate_limit.legacy.json'
        => limited('over_request_rate_limit', $minute),
    'err_over_email_send_rate_limit_global.v2024.json'
        => limited('over_email_send_rate_limit', $minute),
    'err_over_email_send_rate_limit_user.v2024.json'
        => limited('over_email_send_rate_limit', 42),
    'err_over_email_send_rate_limit_user.legacy.json'
        => limited('over_email_send_rate_limit', 42),
    'err_unexpected_failure_db.v2024.json'  => 'taken',
    'err_unexpected_failure_db.legacy.json'  => 'taken',
    'err_unexpected_failure_mail.v2024.json' => 'none',
    'err_unexpected_failure_db_down.v2024.json' => 'none',
    'err_unexpected_failure_captcha.v2024.json' => 'none',
    'err_pg_trigger_raise.legacy.json'       => 'bad',
    'err_pg_unique_violation.legacy.json'    => 'exists',
    'err_request_timeout.v2024.json'         => 'slow',
    'err_request_timeout.legacy.json'        => 'slow',

    # ---- from before GoTrue had codes
    'err_old_invalid_credentials.json' => 'wrong',
    'err_old_email_not_confirmed.json' => forbidden('email_not_confirmed'),
    'err_old_user_already_registered.json' => 'exists',
    'err_old_weak_password.json'    => weak('length'),
    'err_old_signup_disabled.json'  => forbidden('signup_disabled'),
    'err_old_email_signups_disabled.json'
        => forbidden('email_provider_disabled'),
    'err_old_password_missing.json' => refused('validation_failed'),
    'err_old_over_email_send_rate_limit.json'
        => limited('over_email_send_rate_limit', 42),
    'err_old_unexpected_failure_db.json' => 'taken',
    'err_old_other.json'                 => refused('refused'),

    # ---- of the refresh endpoint: valid ones are a refusal with the code
    'err_refresh_token_malformed.v2024.json' => refused('validation_failed'),
    'err_refresh_token_not_found.v2024.json'
        => refused('refresh_token_not_found'),
    'err_refresh_token_not_found.legacy.json'
        => refused('refresh_token_not_found'),
    'err_refresh_token_already_used.v2024.json'
        => refused('refresh_token_already_used'),
    'err_refresh_token_already_used.legacy.json'
        => refused('refresh_token_already_used'),
    'err_refresh_session_not_found.v2024.json'
        => refused('session_not_found'),
    'err_refresh_session_expired.v2024.json' => refused('session_expired'),
    'err_refresh_user_banned.v2024.json'     => forbidden('user_banned'),
    'err_refresh_conflict.v2024.json'        => refused('conflict'),
    'err_oauth_invalid_client.json'          => refused('invalid_client'),

    # ---- about a token: on these two routes it can only be our key
    'err_no_authorization.v2024.json'    => 'key',
    'err_no_authorization.legacy.json'   => 'key',
    'err_bad_jwt_expired.v2024.json'     => 'key',
    'err_bad_jwt_expired.legacy.json'    => 'key',
    'err_bad_jwt_missing_sub.v2024.json' => 'key',
    'err_not_admin.v2024.json'           => 'key',
    'err_not_admin.legacy.json'          => 'key',
    'err_session_not_found.v2024.json'   => refused('session_not_found'),
    'err_session_not_found.legacy.json'  => refused('session_not_found'),
    'err_user_not_found_jwt.v2024.json'  => refused('user_not_found'),
    'err_user_banned_token.v2024.json'   => forbidden('user_banned'),
    'err_admin_user_not_found.v2024.json'   => refused('user_not_found'),
    'err_admin_user_id_not_uuid.v2024.json' => refused('validation_failed'),

    # ---- gateways
    'gw_hosted_no_api_key.json'            => 'key',
    'gw_hosted_invalid_api_key.json'       => 'key',
    'gw_hosted_secret_key_browser_ua.json' => 'key',
    'gw_kong_no_api_key.json'              => 'key',
    'gw_kong_invalid_api_key.json'         => 'key',
    'gw_envoy_unauthorized.txt'            => 'key',
    'gw_envoy_upstream_timeout.txt'        => 'bad',
    'gw_cloudflare_522.html'               => 'bad',
    'gw_cloudflare_403.html'               => 'away',
    'auth_404_unknown_route.txt'           => 'bad',

    # ---- sessions
    'signup_autoconfirm_session.json'     => 'session',
    # without the e-mail that was sent it is another user's
    'signup_anonymous_session.json'       => 'bad',
    'token_password_session.json'         => 'session',
    'token_password_session_rt_v2.json'   => 'session',
    'token_password_session_weak.json'    => 'session',
    'token_password_session_escapes.json' => 'session',
    'token_refresh_session.json'          => 'session',

    # ---- users without a session
    'signup_pending_confirmation_user.json'      => 'pending',
    'signup_existing_unconfirmed_real_user.json' => 'pending',
    'signup_existing_confirmed_fake_user.json'             => 'unproven',
    'signup_existing_confirmed_fake_user_with_data.json'   => 'unproven',
    'signup_existing_confirmed_fake_user_was_invited.json' => 'unproven',
    'signup_phone_existing_fake_user.json'                 => 'bad',
    'signup_invited_unconfirmed_real_user.json'            => 'unproven',

    # ---- users of other endpoints: the rule of the proven identity holds
    'user_get.json'                  => 'pending',
    'user_get_mfa.json'              => 'pending',
    'user_get_banned.json'           => 'pending',
    'user_update_email_pending.json' => 'pending',
    'admin_user_get.json'            => 'pending',
    'user_get_phone_only.json'       => 'bad',
    'user_get_anonymous.json'        => 'bad',
    'admin_user_soft_deleted.json'   => 'bad',

    # ---- 2xx without a user
    (map { ("$_.json" => 'bad') } qw(
        verify_email_change_single_confirmation jwks_es256_rs256 jwks_empty
        health settings admin_users_page admin_users_empty admin_users_cursor
        admin_user_delete hook_response_allow hook_response_reject
        client_fastapi_login client_fastapi_register_autoconfirm
        client_fastapi_register_pending client_supabase_js_signin)),
    'logout_no_content.txt' => 'bad',
);

allow_log(upstream_lines());
allow_log(store_lines());
allow_log(qr/usersync:warn\].*: unknown: Supabase answered 429 .*a hook/);

my $index = UserSync::Util::read_json("$dir/index.json");
my %entry = map { $_->{file} => $_ } @$index;

subtest 'the table is complete' => sub {
    my @answers = grep { defined $entry{$_}{status} } sort keys %entry;
    is_deeply [grep { !$expect{$_} } @answers], [],
        'each recorded answer has an expectation';
    is_deeply [grep { !$entry{$_} } sort keys %expect], [],
        'each expectation has its recorded answer';
    my %known = map { $_ => 1 } keys %entry, 'index.json';
    opendir my $files, $dir or die "$dir: $!";
    is_deeply [grep { -f "$dir/$_" && !$known{$_} } readdir $files], [],
        'each file is in the index';
};

# user, whether a session comes, expected row: a success
sub user_ok {
    my ($file, $path, $response, $kind, $id, @email) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $bytes = UserSync::Util::slurp("$dir/$file");
    my $user = JSON::PP->new->utf8->decode($bytes);
    my $shown = ($user->{user} || $user)->{id};
    success_ok $response, "$path: $file", session => $kind eq 'session',
        user_id => $shown;
    ok session_text($response) eq $bytes, 'the session, byte for byte'
        or diag $response->{body}
        if $kind eq 'session';
    my @rows = postgres()->sql(app => 'SELECT id::text, email FROM users');
    is_deeply \@rows, [$id ? { id => $id, email => $email[0] } : ()],
        $id ? 'and the row' : 'and no row';
    return;
}

for my $path ('/auth/register', '/auth/login') {
    subtest $path => sub {
        for my $file (sort keys %expect) {
            my $both = ref $expect{$file} ? $expect{$file}
                : $means{ $expect{$file} };
            my ($what, @more)
                = @{ $path =~ /login/ && $both->[1] || $both->[0] };
            postgres()->sql(app => 'DELETE FROM users');
            double->fault(kind => 'fixture', file => $file, times => -1);
            my $response = post($path, credentials(@sent));
            double->clear_faults;
            if ($what =~ /\A\d+\z/) {
                problem_ok $response, $what, shift @more, "$path: $file",
                    @more;
                is(postgres()->value(app => 'SELECT count(*) FROM users'), 0,
                    'and no row');
            }
            else { user_ok($file, $path, $response, $what, @more) }
        }
    };
}

# Supabase's texts are not passed on, except those of hooks and the one about
# the project's settings.
subtest 'texts' => sub {
    for my $file (grep {/^(?:err|gw)_/} sort keys %expect) {
        my $bytes = UserSync::Util::slurp("$dir/$file");
        my $answer = eval { JSON::PP->new->utf8->decode($bytes) } || {};
        my ($text) = grep { defined && !ref }
            @$answer{qw(msg message error_description)}, $bytes;
        double->fault(kind => 'fixture', file => $file, times => -1);
        my $response = post('/auth/login', credentials(@sent));
        double->clear_faults;
        my $told = $file =~ /hook_rejected|not_authorized
            |hook_(?:send|token_(?:signup|text)|password)/x ? 1 : 0;
        is $response->{json}{detail} eq $text ? 1 : 0, $told,
            "$file: " . ($told ? 'told' : 'not passed on');
    }
};

# The same answers with another status: the code decides.
subtest 'the status does not decide' => sub {
    my %code = (
        'err_invalid_credentials.v2024.json' => [401, 'invalid_credentials'],
        'err_email_not_confirmed.legacy.json' => [403, 'email_not_confirmed'],
        'err_user_banned_login.v2024.json' => [403, 'user_banned'],
        'err_user_already_exists.legacy.json' => [409, 'user_already_exists'],
        'err_weak_password.v2024.json' => [422, 'weak_password'],
        'err_over_request_rate_limit.v2024.json'
            => [429, 'over_request_rate_limit'],
    );
    for my $file (sort keys %code) {
        for my $status (400, 401, 403, 404, 409, 422, 429, 500, 503) {
            double->fault(kind => 'fixture', file => $file, times => -1,
                status => $status);
            problem_ok post($_, credentials()), @{ $code{$file} },
                "$_: $file with $status" for '/auth/register', '/auth/login';
            double->clear_faults;
        }
    }
};

done_testing;
