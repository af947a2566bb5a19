# sql/supabase-notify.sql, in the stand-in for a Supabase project's database
# that UserSync::Project describes: each change of a user sends one signed
# message, a login none, and whatever fails costs a warning and nothing else.

use UserSync::Gate qw(new_id);
use UserSync::Hook;
use UserSync::Project;
use UserSync::Tables qw(scratch_db);
use UserSync::Test;

use JSON::PP ();

my $DB = project_db('usersync_project');
my $PG = postgres();

# The members of a message, without those of %without.
sub members {
    my ($message, @without) = @_;
    my %json = %{ $message->{json} };
    delete @json{@without};
    return \%json;
}

# The one message that was sent; fails if there is another number.
sub one_message {
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @messages = messages($DB);
    is scalar(@messages), 1, "$name: one message";
    return $messages[0] || { json => {}, headers => {}, body => '' };
}

# $at is a time of PostgreSQL's, from then on; all as of the JSON.
sub not_before {
    my ($message, $member, $at, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok($PG->value($DB => 'SELECT ?::timestamptz >= ?::timestamptz',
        $message->{json}{$member}, $at), $name)
        || diag "$message->{json}{$member} is before $at";
}

sub clock { return $PG->value($DB => 'SELECT clock_timestamp()::text') }

# The message's time is one between $at and now.
sub since {
    my ($message, $at, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $now = clock();
    return ok($PG->value($DB => 'SELECT ?::timestamptz BETWEEN ?::timestamptz '
        . 'AND ?::timestamptz', $message->{json}{updated_at}, $at, $now), $name)
        || diag "$message->{json}{updated_at} is not between $at and $now";
}

# All that the files of sql/ have made, and what of it others may do.
sub traces {
    return $PG->sql($DB => <<'SQL');
SELECT 'schema ' || nspname AS what, nspacl::text AS how
  FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%'
UNION ALL SELECT pg_get_functiondef(oid), proowner::regrole || ' '
    || proacl::text
  FROM pg_proc WHERE pronamespace = (SELECT oid FROM pg_namespace
    WHERE nspname = 'usersync')
UNION ALL SELECT pg_get_triggerdef(oid), tgenabled::text
  FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'secret ' || name, secret FROM vault.secrets
UNION ALL SELECT 'class ' || oid::regclass::text, relacl::text
  FROM pg_class WHERE relnamespace NOT IN (SELECT oid FROM pg_namespace
    WHERE nspname ~ '^pg_' OR nspname = 'information_schema')
 ORDER BY 1
SQL
}

# ---- installing it

my @before = traces();

subtest 'installing' => sub {
    my ($status, $said) = project_file($DB, 'supabase-notify.sql');
    is $status, 0, 'runs as the project\'s owner' or diag $said;
    is_deeply [map { /^(\S+ in the Vault is [^|]+)/ } split /\n/, $said],
        ['usersync_event_url in the Vault is missing',
            'usersync_event_secret in the Vault is missing'],
        'and says what is missing' or diag $said;
    set_secret($DB, usersync_event_url => 'http://www.example.com/',
        usersync_event_secret => 'v1,whsec_c2hvcnQ=');
    ($status, $said) = project_file($DB, 'supabase-notify.sql');
    is_deeply [map { /^(\S+ in the Vault is [^|]+)/ } split /\n/, $said],
        ['usersync_event_url in the Vault is no https URL',
            'usersync_event_secret in the Vault is malformed'],
        'or wrong' or diag $said;
    unlike $said, qr/c2hvcnQ/, 'without the secret';
    set_secret($DB, usersync_event_url => $EVENT_URL,
        usersync_event_secret => $EVENT_SECRET);
    my @once = traces();
    ($status, $said) = project_file($DB, 'supabase-notify.sql');
    is "$status: $said", '0: ', 'nothing is missing any more';
    is_deeply [traces()], \@once, 'twice is the same as once';
    my @triggers = grep { /usersync_(?:insert|update|delete)/ }
        map { $_->{what} } @once;
    is scalar(@triggers), 3, 'three triggers';
    is $PG->value($DB => q{SELECT count(*) FROM pg_proc WHERE pronamespace =
        'usersync'::regnamespace AND has_function_privilege('public', oid,
        'EXECUTE')}), 0, 'nothing may be called by everybody';
    for my $role ('supabase_auth_admin', 'www-data') {
        ok !$PG->value($DB => 'SELECT bool_or(has_schema_privilege(?, s, '
            . q{'USAGE')) FROM unnest('{usersync,vault,net,extensions}'}
            . '::text[]) AS s', $role), "$role may use none of the schemas";
    }
};

# ---- what is sent

subtest 'a user is made' => sub {
    my $at = clock();
    my $id = add_user($DB, email => 'ada@example.com', phone => '4915112345',
        raw_user_meta_data => '{"name": "Ada <&> \u00d6", "n": [1.50, null]}',
        updated_at => '2026-08-20 11:15:02.412907+02');
    my $message = one_message('INSERT');
    is_deeply members($message, 'updated_at'), {
        type => 'INSERT', id => $id, email => 'ada@example.com',
        phone => '4915112345', is_anonymous => JSON::PP::false,
        app_metadata => { provider => 'email' },
        user_metadata => { name => "Ada <&> \x{d6}", n => [1.50, undef] },
        banned_until => undef, deleted_at => undef }, 'its members';
    since $message, $at, 'and the time of the database';
    like $message->{json}{updated_at},
        qr/^\d{4}-\d\d-\d\dT[\d:]{8}(?:\.\d{1,6})?\+00:00$/, 'in UTC';
    like $message->{body}, qr/"n": \[1\.50, null\]/, 'numbers as they are';
    unlike $message->{body}, qr/PasswordOfThe|TokenOfThe/, 'no secret';
    is_deeply [@{$message}{qw(url timeout)}], [$EVENT_URL, 5000], 'to the URL';
    is_deeply [sort keys %{ $message->{headers} }], [qw(Content-Type
        webhook-id webhook-signature webhook-timestamp)], 'the headers';
    $at = clock();
    $id = add_user($DB, email => undef, raw_user_meta_data => undef,
        raw_app_meta_data => 'null', is_anonymous => 1, updated_at => undef);
    $message = one_message('one without anything');
    is_deeply members($message, 'updated_at'), {
        type => 'INSERT', id => $id, email => undef, phone => undef,
        is_anonymous => JSON::PP::true, app_metadata => {},
        user_metadata => {}, banned_until => undef, deleted_at => undef },
        'is complete';
    since $message, $at, 'and has a time';
};

subtest 'a user is changed' => sub {
    my $id = add_user($DB, email => 'one@example.com');
    my $last = one_message('the user');
    my @changes = (
        [email => 'two@example.com', 'email', 'two@example.com'],
        [phone => '4916000', 'phone', '4916000'],
        [is_anonymous => 1, 'is_anonymous', JSON::PP::true],
        [banned_until => '2126-08-20 11:00:00.5+02', 'banned_until',
            '2126-08-20T09:00:00.5+00:00'],
        [banned_until => undef, 'banned_until', undef],
        [banned_until => 'infinity', 'banned_until', 'infinity'],
        [raw_user_meta_data => '{"name": "B"}', 'user_metadata',
            { name => 'B' }],
        [raw_app_meta_data => '{"role": "admin"}', 'app_metadata',
            { role => 'admin' }],
    );
    for my $change (@changes) {
        my ($column, $value, $member, $wanted) = @$change;
        my $at = clock();
        change_user($DB, $id, $column => $value);
        my $message = one_message($column);
        is_deeply $message->{json}{$member}, $wanted, 'with the new value';
        is $message->{json}{type}, 'UPDATE', 'an UPDATE';
        is $message->{json}{id}, $id, 'of this user';
        since $message, $at, 'of this time';
        is $PG->value($DB => 'SELECT ?::timestamptz < ?::timestamptz',
            map { $_->{json}{updated_at} } $last, $message), 1,
            'and later than the one before';
        $last = $message;
    }
    change_user($DB, $id, email => 'three@example.com', phone => '4917000');
    one_message('two columns at once');
};

subtest 'times' => sub {
    my $id = add_user($DB, updated_at => '2020-01-01 00:00:00Z');
    messages($DB);
    my $dbh = auth_admin($DB);
    my $by_hand = sub {
        my ($email) = @_;
        my $at = clock();
        $dbh->do('UPDATE auth.users SET email = ? WHERE id = ?', undef, $email,
            $id);
        return ($at, one_message('SQL by hand'));
    };
    my ($at, $message) = $by_hand->('hand@example.com');
    since $message, $at, 'a time that was not touched is the clock\'s';
    $at = clock();
    change_user($DB, $id, email => 'slow@example.com',
        updated_at => '2021-01-01 00:00:00Z');
    since one_message('a clock that is behind'), $at, 'is the clock\'s, too';
    $at = clock();
    change_user($DB, $id, email => 'back@example.com',
        updated_at => '2019-01-01 00:00:00Z');
    since one_message('a time that was set back'), $at, 'is the clock\'s, too';
    $at = clock();
    change_user($DB, $id, email => 'none@example.com', updated_at => undef);
    since one_message('a time that was removed'), $at, 'is the clock\'s, too';
    change_user($DB, $id, email => 'late@example.com',
        updated_at => '2999-01-01 00:00:00Z');
    is one_message('a clock that is ahead')->{json}{updated_at},
        '2999-01-01T00:00:00+00:00', 'is believed';
    ($at, $message) = $by_hand->('ahead@example.com');
    is $message->{json}{updated_at}, '2999-01-01T00:00:00+00:00',
        'and never undercut';
    $dbh->do('DELETE FROM auth.users WHERE id = ?', undef, $id);
    $message = one_message('a deletion');
    is_deeply [@{ $message->{json} }{qw(updated_at deleted_at)}],
        [('2999-01-01T00:00:00+00:00') x 2], 'not even by a deletion';
};

subtest 'a user is deleted' => sub {
    my $id = add_user($DB, email => 'ada.gone@example.com',
        phone => '491700000', raw_user_meta_data => '{"name": "Ada Gone"}');
    messages($DB);
    my $at = clock();
    change_user($DB, $id, deleted_at => $at, email => 'HashOfTheAddress',
        phone => 'HashOfThePhone');
    my $message = one_message('softly');
    is_deeply members($message, qw(updated_at deleted_at)), {
        type => 'UPDATE', id => $id, email => undef, phone => undef,
        is_anonymous => JSON::PP::false, app_metadata => {},
        user_metadata => {}, banned_until => undef },
        'without hashes and metadata';
    is $PG->value($DB => 'SELECT ?::timestamptz = ?::timestamptz',
        $message->{json}{deleted_at}, $at), 1, 'and since when';
    change_user($DB, $id, raw_user_meta_data => '{}');
    is one_message('its metadata, later')->{json}{deleted_at},
        $message->{json}{deleted_at}, 'the same state';
    $id = add_user($DB, email => 'ada.gone@example.com');
    messages($DB);
    $at = clock();
    auth_admin($DB)->do('DELETE FROM auth.users WHERE id = ?', undef, $id);
    $message = one_message('for good');
    is_deeply members($message, qw(updated_at deleted_at)), {
        type => 'DELETE', id => $id, email => undef, phone => undef,
        is_anonymous => JSON::PP::false, app_metadata => {},
        user_metadata => {}, banned_until => undef }, 'id and times';
    is $message->{json}{updated_at}, $message->{json}{deleted_at}, 'one time';
    not_before $message, 'deleted_at', $at, 'that of the deletion';
};

subtest 'silence' => sub {
    my $id = add_user($DB);
    messages($DB);
    change_user($DB, $id, last_sign_in_at => clock());
    change_user($DB, $id, encrypted_password => 'x', recovery_token => 'y',
        role => 'authenticated', email_confirmed_at => clock());
    my $same = auth_admin($DB)->do('UPDATE auth.users SET email = email, '
        . 'phone = phone, raw_user_meta_data = raw_user_meta_data, '
        . 'banned_until = NULL, updated_at = now() WHERE id = ?', undef, $id);
    is $same, 1, 'an UPDATE of all columns to what they are';
    is scalar(messages($DB)), 0, 'no login and no such change sends anything';
};

subtest 'transactions' => sub {
    my $dbh = $PG->connect($DB, 'supabase_auth_admin');
    $dbh->begin_work;
    my $id = add_user($DB, dbh => $dbh);
    change_user($DB, $id, dbh => $dbh, email => 'a@example.com');
    $dbh->do('SAVEPOINT s');
    change_user($DB, $id, dbh => $dbh, email => 'b@example.com');
    $dbh->do('ROLLBACK TO s');
    change_user($DB, $id, dbh => $dbh, phone => '4918000');
    is scalar(messages($DB)), 0, 'nothing before the commit';
    $dbh->commit;
    my @messages = messages($DB);
    is_deeply [map { $_->{json}{email} } @messages],
        ["$id\@example.com", ('a@example.com') x 2],
        'what was rolled back is not sent';
    my @times = map { $_->{json}{updated_at} } @messages;
    is $PG->value($DB => 'SELECT ?::timestamptz < ?::timestamptz AND '
        . '?::timestamptz < ?::timestamptz', @times[0, 1, 1, 2]), 1,
        'the times are in order' or diag "@times";
    my %ids = map { $_->{headers}{'webhook-id'} => 1 } @messages;
    is scalar(keys %ids), 3, 'each has an id of its own';
    is scalar(grep { !/^msg_[0-9a-f-]{36}$/ } keys %ids), 0, 'of that form';
    $dbh->begin_work;
    change_user($DB, $id, dbh => $dbh, email => 'c@example.com');
    $dbh->rollback;
    $dbh->disconnect;
    is scalar(messages($DB)), 0, 'nothing of a transaction that is rolled back';
};

# ---- signatures

# A hook of the module takes a message whose signature is good for that of a
# hook that is not served, and refuses any other with 401.
subtest 'signatures' => sub {
    my $other = secret_of(64);
    my $rows = scratch_db('usersync_notify');
    my $httpd = hook_server($rows, secret => "$other|$EVENT_SECRET",
        children => 1)->start;
    my $judged = sub { return replay($_[0], $httpd->url('/hook'))->{status} };
    my %meta = ('plain' => '{}', 'everything' => $PG->value($DB => q{SELECT
        jsonb_build_object('name', string_agg(chr(i), ''))::text
          FROM generate_series(1, 1200) AS i}), 'deep' => '[' x 50 . ']' x 50);
    for my $name (sort keys %meta) {
        my $value = $name eq 'deep' ? qq({"deep": $meta{deep}}) : $meta{$name};
        add_user($DB, raw_user_meta_data => $value);
        my $message = one_message($name);
        is $message->{headers}{'webhook-signature'},
            signature_of($message, $EVENT_SECRET), 'signed';
        cmp_ok abs($message->{headers}{'webhook-timestamp'} - time), '<=',
            60 + slack, 'now';
        is $judged->($message), 200, 'the module knows the signature';
        $message->{body} =~ s/example/Example/;
        is $judged->($message), 401, 'and that of a changed body';
    }
    for my $secret ("$other|$EVENT_SECRET", " $other \n", "$other\r\n") {
        set_secret($DB, usersync_event_secret => $secret);
        add_user($DB);
        my $message = one_message('another form of the secret');
        is $message->{headers}{'webhook-signature'},
            signature_of($message, $other), 'the first of several signs';
        is $judged->($message), 200, 'and the module knows it';
    }
    set_secret($DB, usersync_event_secret => secret_of(24),
        usersync_event_url => " $EVENT_URL\n");
    add_user($DB);
    my $message = one_message('another secret');
    is $judged->($message), 401, 'is not known';
    is $message->{url}, $EVENT_URL, 'blanks around the URL do not count';
    set_secret($DB, usersync_event_secret => $EVENT_SECRET,
        usersync_event_url => $EVENT_URL);
    $httpd->expect_log(qr/invalid_signature/);
    $httpd->expect_log(qr/hook_not_served/);
};

# ---- hostile values

subtest 'values are values' => sub {
    my $nasty = q{'; DROP TABLE auth.users; --} . q{$$ $1 :x \\' " } . "\r\n\t"
        . q("}, "type": "DELETE") . "\x{202e}\x{1f600}";
    my $json = JSON::PP->new->encode({ $nasty => [$nasty, { $nasty => 1 }] });
    my $id = add_user($DB, email => $nasty, phone => $nasty,
        raw_user_meta_data => $json, raw_app_meta_data => $json);
    my $message = one_message('SQL and JSON in all values');
    is_deeply [@{ $message->{json} }{qw(type id email phone)}],
        ['INSERT', $id, $nasty, $nasty], 'are the values';
    is_deeply $message->{json}{$_}, { $nasty => [$nasty, { $nasty => 1 }] }, $_
        for qw(user_metadata app_metadata);
    is $message->{headers}{'webhook-signature'},
        signature_of($message, $EVENT_SECRET), 'and they are signed';
};

subtest 'names are names' => sub {
    my $dbh = $PG->connect($DB, 'supabase_auth_admin');
    $PG->sql($DB => $_) for 'CREATE SCHEMA planted',
        'GRANT ALL ON SCHEMA planted TO PUBLIC';
    $dbh->do($_) for 'SET search_path = planted, pg_catalog, auth',
        'CREATE FUNCTION planted.evil(text, text) RETURNS text LANGUAGE '
            . q{plpgsql AS $$BEGIN RAISE 'planted'; END$$},
        'CREATE FUNCTION planted.btrim(text, text) RETURNS text LANGUAGE sql '
            . 'AS $$SELECT planted.evil($1, $2)$$',
        'CREATE OPERATOR planted.|| (LEFTARG = text, RIGHTARG = text, '
            . 'FUNCTION = planted.evil)',
        'CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (false)',
        'CREATE DOMAIN pg_temp.jsonb AS pg_catalog.jsonb CHECK (false)',
        'CREATE TEMPORARY TABLE users (id uuid)';
    my $id = add_user($DB, dbh => $dbh);
    is one_message('names that lead elsewhere')->{json}{id}, $id,
        'do not lead the trigger there';
    $dbh->disconnect;
};

subtest 'too much metadata' => sub {
    my $long = 'x' x 300_000;
    my $id = add_user($DB, raw_user_meta_data =>
        qq({"name": "Ada", "avatar": "$long", "facts": {"a": [1, 2]}}),
        raw_app_meta_data => qq({"role": "admin", "big": "$long"}));
    my $message = one_message('large values');
    cmp_ok length $message->{body}, '<=', 262_144, 'no more than is taken';
    is_deeply [@{ $message->{json} }{qw(user_metadata app_metadata)}],
        [{ name => 'Ada', facts => { a => [1, 2] } }, { role => 'admin' }],
        'without these values';
    change_user($DB, $id, raw_app_meta_data => '{"big": "' . 'y' x 9000
        . '"}', banned_until => '2126-01-01 00:00:00Z');
    $message = one_message('one large part');
    is length $message->{json}{app_metadata}{big}, 9000,
        'leaves the other one whole';
    my $many = join ', ', map { qq("key$_":") . 'z' x 1000 . '"' } 1 .. 300;
    change_user($DB, $id, raw_user_meta_data => "{$many}");
    $message = one_message('many values');
    is_deeply [@{ $message->{json} }{qw(user_metadata app_metadata
        banned_until)}], [{}, {}, '2126-01-01T00:00:00+00:00'],
        'are left out, and the ban is not';
    is $message->{headers}{'webhook-signature'},
        signature_of($message, $EVENT_SECRET), 'signed';
};

# ---- failures

# Makes, changes and deletes a user as Supabase Auth does, in a transaction in
# which these statements of a superuser have been run before; nothing of it
# stays. Returns the warnings.
sub broken {
    my (@sql) = @_;
    my $dbh = $PG->connect($DB);
    my @warnings;
    local $SIG{__WARN__} = sub { push @warnings, @_ };
    $dbh->begin_work;
    $dbh->do($_) for @sql;
    $dbh->{PrintWarn} = 1;
    $dbh->do('SET LOCAL ROLE supabase_auth_admin');
    my $id = add_user($DB, dbh => $dbh, email => 'someone@example.com');
    my $done = change_user($DB, $id, dbh => $dbh, email => 'else@example.com');
    $done += $dbh->do('DELETE FROM auth.users WHERE id = ?', undef, $id);
    is $done, 2, 'the user is made, changed and deleted';
    $dbh->{PrintWarn} = 0;
    $dbh->rollback;
    $dbh->disconnect;
    return @warnings;
}

sub secret_is {
    my ($name, $value) = @_;
    my $quoted = $PG->dbh($DB)->quote($value);
    return ("DELETE FROM vault.secrets WHERE name = '$name'",
        defined $value ? "SELECT vault.create_secret($quoted, '$name')" : ());
}

subtest 'failures' => sub {
    my $mark = -s $PG->log_file;
    my @bad = ('v1,whsec_', 'v1,whsec_c2VjcmV0', 'whsec_U2VjcmV0U2VjcmV0',
        'v1,whsec_***U2VjcmV0U2VjcmV0U2VjcmV0***', '',
        'v1,whsec_U2VjcmV0U2VjcmV0U2VjcmV0U2VjcmV0U', "\n|$EVENT_SECRET",
        'v1,whsec_' . 'U2Vj' x 22);
    my $pg_net = 'net.http_post(text, jsonb, jsonb, jsonb, integer)';
    my @cases = (
        ['pg_net is missing', qr/handing it to pg_net failed \(3F000\)/,
            'DROP SCHEMA net CASCADE'],
        ['its function is missing', qr/handing it to pg_net failed \(42883\)/,
            "DROP FUNCTION $pg_net"],
        ['its function is another', qr/handing it to pg_net failed \(42883\)/,
            "DROP FUNCTION $pg_net", 'CREATE FUNCTION net.http_post(url text) '
                . 'RETURNS bigint LANGUAGE sql AS $$SELECT 1::bigint$$'],
        ['it raises an error', qr/handing it to pg_net failed \(P0001\)/,
            'ALTER TABLE net.http_request_queue ADD CHECK (true)',
            'CREATE FUNCTION net.down() RETURNS trigger LANGUAGE plpgsql AS '
                . q{$$BEGIN RAISE EXCEPTION 'down: %', NEW; END$$},
            'CREATE TRIGGER down AFTER INSERT ON net.http_request_queue '
                . 'FOR EACH ROW EXECUTE FUNCTION net.down()'],
        ['its queue is closed', qr/handing it to pg_net failed \(42501\)/,
            'REVOKE ALL ON net.http_request_queue FROM project_owner'],
        ['the Vault is missing', qr/usersync_event_url from the Vault failed/,
            'DROP SCHEMA vault CASCADE'],
        ['the Vault is closed', qr/the Vault failed \(42501\)/,
            'REVOKE ALL ON SCHEMA vault FROM project_owner'],
        ['it cannot be decrypted', qr/usersync_event_url from .* \(22023\)/,
            q{UPDATE vault.secrets SET secret = 'x'}],
        ['no URL', qr/usersync_event_url from the Vault failed \(P0002\)/,
            secret_is('usersync_event_url')],
        ['no secret', qr/usersync_event_secret from the Vault failed/,
            secret_is('usersync_event_secret')],
        ['pgcrypto is missing',
            qr/signing with usersync_event_secret failed \(42883\)/,
            'DROP EXTENSION pgcrypto'],
        ['no message can be made', qr/making the message failed/,
            'DROP FUNCTION usersync.message'],
        (map { ["the secret '$_'", qr/signing with .* failed \(22023\)/,
            secret_is(usersync_event_secret => $_)] } @bad),
    );
    for my $case (@cases) {
        my ($name, $wanted, @sql) = @$case;
        my @warnings = broken(@sql);
        is scalar(@warnings), 3, "$name: a warning for each" or diag @warnings;
        is scalar(grep { $_ !~ $wanted } @warnings), 0, "$name: it says so"
            or diag @warnings;
    }
    my $log = slurp($PG->log_file, $mark);
    is scalar(() = $log =~ /WARNING:  usersync: no message was sent/g),
        3 * @cases, 'the server\'s log has them, too';
    my ($secret) = $EVENT_SECRET =~ /^v1,whsec_(.*)/;
    unlike $log, qr/\Q$secret\E|U2VjcmV0|U2VjU2Vj|example\.com/,
        'and no secret, address or URL';
    is scalar(messages($DB)), 0, 'nothing was sent';
};

subtest 'a queue that is locked' => sub {
    my $other = $PG->connect($DB);
    $other->begin_work;
    $other->do('LOCK TABLE net.http_request_queue');
    my $dbh = auth_admin($DB);
    my @warnings;
    local $SIG{__WARN__} = sub { push @warnings, @_ };
    $dbh->{PrintWarn} = 1;
    my $start = time;
    my $id = add_user($DB);
    cmp_ok time - $start, '<', 0.5 + slack, 'does not hold a sign-up for long';
    $dbh->{PrintWarn} = 0;
    $other->rollback;
    $other->disconnect;
    is scalar(@warnings), 1, 'a warning' or diag @warnings;
    like "@warnings", qr/handing it to pg_net failed \(55P03\)/, 'says so';
    ok $PG->value($DB => 'SELECT 1 FROM auth.users WHERE id = ?', $id),
        'the user is there';
    is $dbh->selectrow_array('SHOW lock_timeout'), '0',
        'and the session is as before';
    messages($DB);
};

# ---- taking it out

subtest 'removing' => sub {
    $PG->sql($DB => 'DROP SCHEMA planted CASCADE');
    for my $time ('once', 'twice') {
        my ($status, $said) = project_file($DB, 'supabase-notify-remove.sql');
        is $status, 0, $time or diag $said;
        is_deeply [traces()], \@before, 'leaves nothing';
    }
    add_user($DB);
    is scalar(messages($DB)), 0, 'nothing is sent any more';
    my ($status) = project_file($DB, 'supabase-notify.sql');
    is $status, 0, 'and it can be installed again';
    ($status) = project_file($DB, 'supabase-notify-remove.sql');
    is $status, 0, 'and removed';
};

done_testing;
