# Users who are banned or deleted: the row says so, and gate, routes and hook
# agree. docs/lifecycle.md.

use UserSync::Event;
use UserSync::Gate;
use UserSync::Hook qw(call_hook hook_lines refused_hook_ok token_body);
use UserSync::Tables;
use UserSync::Test;

my $GUARDED = guarded('/app', 'UserSyncEnsure On');
my $DB = logged_db('usersync_life', UserSync::Event::life_sql());

# A user whose row has these values, as SQL.
sub user_with {
    my (%set) = @_;
    my $id = delete $set{id} || new_id();
    postgres->sql($DB, 'INSERT INTO users (' . join(', ', 'id', sort keys %set)
        . ') VALUES (' . join(', ', "'$id'", map { $set{$_} } sort keys %set)
        . ')');
    return $id;
}

# What Supabase asks the hook before it signs a token now.
sub token { return token_body(sub => $_[0], iat => \time) }

sub life_of {
    my ($id) = @_;
    my $row = row_of($id, $DB) or return;
    return { map { $_ => $row->{$_} }
            qw(email banned_until deleted_at updated_at) };
}

# What one visit asks the database, after its status.
sub visit_and_sql {
    my ($httpd, $id, $vhost) = @_;
    my $response;
    my $sql = sql_of($DB, sub {
        $response = visit($httpd, $httpd->url('/app/file', $vhost), $id);
    });
    return join ' ', $response->{status}, @$sql;
}

my $secret = UserSync::Util::spew("$ENV{USERSYNC_RUN}/life.secret",
    "$UserSync::Hook::SECRET\n");
chmod 0600, $secret;
my $httpd = gate_server($DB, $LIFE_LINES . $GUARDED
    . "UserSyncHookSecret file:$secret\n" . hook_lines('/hook'),
    vhosts => { none => 'UserSyncColumn banned_until None' . "\n"
        . 'UserSyncColumn deleted_at None' })->start;

subtest 'the row decides at the gate' => sub {
    for my $case (
        ['a ban', 403, 'user_banned', banned_until => "now() + interval '1 h'"],
        ['for ever', 403, 'user_banned', banned_until => "'infinity'"],
        ['that is over', 200, undef, banned_until => "now() - interval '1 s'"],
        ['none since ever', 200, undef, banned_until => "'-infinity'"],
        ['deleted', 401, 'user_deleted', deleted_at => 'now()'],
        ['and banned', 401, 'user_deleted', deleted_at => 'now()',
            banned_until => "'infinity'"],
        ['nothing of the kind', 200]) {
        my ($name, $status, $code, %set) = @$case;
        my $id = user_with(%set);
        my $response = visit($httpd, '/app/file', $id);
        is $response->{status}, $status, $name or diag show($response);
        problem_ok $response, $status, $code, "$name: $code" if $code;
        is_deeply gate_notes($httpd), [$code || 'ok', $id, 'SQL'],
            "$name: its notes";
        my ($challenge) = $response->{headers}{'www-authenticate'} || '';
        is $challenge, $status == 401
            ? 'Bearer realm="app", error="invalid_token"' : '',
            "$name: the challenge";
        is visit_and_sql($httpd, $id), $status,
            "$name: and once more without a look";
    }
};

subtest 'where the columns have no names' => sub {
    my $id = user_with(deleted_at => 'now()');
    is visit($httpd, $httpd->url('/app/file', 'none'), $id)->{status}, 200,
        'nobody is kept out';
};

subtest 'a ban ends by itself' => sub {
    my $id = user_with(banned_until => "now() + interval '1500 ms'");
    is visit($httpd, '/app/file', $id)->{status}, 403, 'banned';
    wait_until { visit($httpd, '/app/file', $id)->{status} == 200 } 20,
        'the end of the ban';
    is visit($httpd, '/app/file', $id)->{status}, 200,
        'well before UserSyncCacheTimeout';
};

subtest 'the hook' => sub {
    $httpd->allow_log(qr/usersync-hook: user_(?:banned|deleted)/);
    my %is = (banned => [banned_until => "now() + interval '1 h'"],
        deleted => [deleted_at => 'now()']);
    for my $word (sort keys %is) {
        my $id = user_with(@{ $is{$word} }, updated_at => 'now()');
        my $status = $word eq 'banned' ? 403 : 401;
        refused_hook_ok call_hook($httpd, token($id)), $status,
            "This account $_.", "$word: no token"
            for $word eq 'banned' ? 'is banned' : 'has been deleted';
        # some ways to a token do not ask whether the user is banned
        postgres->sql($DB, "UPDATE users SET updated_at = now()
            - interval '1 min' WHERE id = ?", $id);
        my @before = @{ life_of($id) }{qw(banned_until deleted_at)};
        refused_hook_ok call_hook($httpd, token($id)), $status, 'account',
            "$word a while ago: no token either";
        is_deeply [@{ life_of($id) }{qw(banned_until deleted_at)}], \@before,
            'and the row says so as before';
    }
};

subtest 'the login route' => sub {
    my %user = (email => 'life@example.com', password => 'correct horse');
    double->reset;
    double->add_user(%user);
    # what SQL does to a row is known at once where there is no cache
    my $own = gate_server($DB, module_config() . database($DB) . $LIFE_LINES
        . "UserSyncCache none\n")->start;
    my $login = sub { post($own->url('/auth/login'), \%user) };
    my $first = $login->();
    is $first->{status}, 200, 'a row' or return diag show($first);
    my $id = $first->{json}{user_id};
    is_deeply [@{ life_of($id) }{qw(email updated_at)}],
        ['life@example.com', undef],
        'its time is for events: a sign-in does not count as one';
    postgres->sql($DB, "UPDATE users SET banned_until = 'infinity',
        updated_at = now() WHERE id = ?", $id);
    my $response = $login->();
    problem_ok $response, 403, 'user_banned', 'banned a moment ago';
    unlike $response->{body}, qr/token/, 'without a session';
    postgres->sql($DB, "UPDATE users SET updated_at = now()
        - interval '1 min' WHERE id = ?", $id);
    is $login->()->{status}, 200, 'Supabase let them in later';
    is life_of($id)->{banned_until}, undef, 'the row follows';
    postgres->sql($DB, "UPDATE users SET email = 'new\@example.com',
        updated_at = now() WHERE id = ?", $id);
    is $login->()->{status}, 200, 'a later e-mail in the row';
    is life_of($id)->{email}, 'new@example.com', 'stays';
    $own->stop;
};

subtest 'rows that were deleted' => sub {
    postgres->sql($DB, $_) for 'CREATE TABLE users_deleted (id uuid PRIMARY KEY,
        deleted_at timestamptz NOT NULL, updated_at timestamptz)',
        'GRANT SELECT, INSERT, UPDATE, DELETE ON users_deleted TO "www-data"',
        'GRANT DELETE ON users TO "www-data"';
    my $own = gate_server($DB, $LIFE_LINES . $GUARDED
        . "UserSyncOnDelete Delete\nUserSyncHookSecret file:$secret\n"
        . hook_lines('/hook'))->start;
    $own->allow_log(qr/usersync-hook: user_deleted/);
    my $id = new_id();
    postgres->sql($DB, 'INSERT INTO users_deleted VALUES (?, now(), now())',
        $id);
    problem_ok visit($own, '/app/file', $id), 401, 'user_deleted';
    is has_row($id), 0, 'the gate makes no row';
    is visit_and_sql($own, $id), 401, 'the cache knows';
    refused_hook_ok call_hook($own, token($id)), 401,
        'This account has been deleted.', 'nor a token';
    is has_row($id), 0, 'no row';
    # beside a row, where a foreign key did not let it go
    my $kept = user_with(updated_at => 'now()');
    postgres->sql($DB, "INSERT INTO users_deleted
        SELECT id, now(), updated_at + interval '1 s' FROM users
        WHERE id = ?", $kept);
    problem_ok visit($own, '/app/file', $kept), 401, 'user_deleted',
        'a row with a tombstone';
    postgres->sql($DB, 'REVOKE DELETE ON users FROM "www-data"');
    $own->stop;
};

subtest 'tables that do not suit' => sub {
    for my $case (
        [qr/"users_deleted" cannot be used: GRANT/,
            'REVOKE UPDATE ON users_deleted FROM "www-data"'],
        [qr/no permission to delete from "public"."users": GRANT DELETE/,
            'GRANT UPDATE ON users_deleted TO "www-data"'],
        [qr/"users_deleted" has an id of another type/,
            'ALTER TABLE users_deleted ALTER id TYPE text'],
        [qr/"users_deleted" does not exist/, 'DROP TABLE users_deleted'],
        [qr/"updated_at" of \S+ must be timestamptz, it is timestamp: ALTER/,
            'ALTER TABLE users ALTER updated_at TYPE timestamp']) {
        my ($cause, $sql) = @$case;
        postgres->sql($DB, $sql);
        my $own = gate_server($DB, $LIFE_LINES . $GUARDED
            . "UserSyncOnDelete Delete\n")->start;
        $own->expect_log(qr/store_unavailable.*$cause/);
        problem_ok visit($own, '/app/file', new_id()), 503,
            'store_unavailable', "$cause";
        $own->stop;
    }
};

done_testing;
