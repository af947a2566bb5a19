package AuthDouble::Admin;
# GET /admin/users, by offset and from a cursor, and GET /admin/users/ID. There
# is no "filter".
use strict;
use warnings;
use MIME::Base64 qw(encode_base64url decode_base64url);
use AuthDouble::Http qw(query_param);
use AuthDouble::Json qw(obj num bool raw encode decode plain);
use AuthDouble::UserJson qw(user_json rfc3339);
use AuthDouble::Walk qw(micros);

my $UUID = qr/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/i;

# undef for an admin, or the answer to everybody else
sub refused {
    my ($c) = @_;
    if (!$c->{role}) {
        return $c->error(401, 'no_authorization',
            'This endpoint requires a valid Bearer token')
            if $c->{bearer} eq '';
        if (!eval { $c->{jwt}->verify($c->{bearer}) }) {
            chomp(my $why = $@);
            return $c->error(403, 'bad_jwt', $why);
        }
    }
    return $c->is_admin ? undef
        : $c->error(403, 'not_admin', 'User not allowed');
}

sub user {
    my ($c) = @_;
    my $failed = refused($c);
    return $failed if $failed;
    return $c->error(404, 'validation_failed', 'user_id must be an UUID')
        if $c->{id} !~ /\A$UUID\z/;
    my $user = $c->{store}->peek(lc $c->{id})
        or return $c->error(404, 'user_not_found', 'User not found');
    return $c->json(200, user_json($user));
}

sub users {
    my ($c) = @_;
    my $failed = refused($c);
    return $failed if $failed;
    my %q = map { $_ => query_param($c->{req}, $_) // '' }
        qw(page per_page limit cursor sort filter);
    die "the double has no filter\n" if $q{filter} ne '';
    my $sort = $q{sort} =~ /\A(?:created_at(?: (asc|desc))?)?\z/i
        ? lc($1 // 'desc') : return $c->error(400, 'validation_failed',
        "Bad Sort Parameters: bad field for sort '$q{sort}'");
    my $walk = $c->{store}->walk($c->aud);
    return $c->{config}{cursor_pagination} && $q{page} . $q{per_page} eq ''
        ? _from_cursor($c, $walk, \%q, $sort eq 'desc')
        : _by_offset($c, $walk, \%q, $sort eq 'desc');
}

sub _json {
    my ($c, $walk, $who, $more, @headers) = @_;
    my $users = join ',', map { ref $_ ? encode(user_json($_, list => 1))
        : $walk->{crowd}->text($_) } @$who;
    return $c->json(200, obj(users => raw("[$users]"), aud => $c->aud, @$more),
        @headers);
}

sub _by_offset {
    my ($c, $walk, $q, $desc) = @_;
    for (qw(page per_page)) {
        return $c->error(400, 'validation_failed', 'Bad Pagination Parameters:'
            . qq( strconv.ParseUint: parsing "$q->{$_}": invalid syntax))
            if $q->{$_} !~ /\A[0-9]{0,18}\z/;
    }
    my $page = $q->{page} eq '' ? 1 : $q->{page} + 0;
    my $per_page = $q->{per_page} eq '' ? 50 : $q->{per_page} + 0;
    # a division by zero, and an OFFSET below zero
    return $c->error(500, 'unexpected_failure', 'Unexpected failure, please'
        . ' check server logs for more information') if !$per_page;
    return $c->error(500, 'unexpected_failure', 'Database error finding users')
        if !$page;
    my $seed = $c->{config}{order_of_equals};
    $seed = $seed * 1_000_003 + ++$c->{store}{lists} if $seed;
    my @who = $walk->page(($page - 1) * $per_page, $per_page, $desc, $seed);
    my $last = int(($walk->count + $per_page - 1) / $per_page);
    my @links = (($last > $page ? _link($c, 'next', page => $page + 1) : ()),
        _link($c, 'last', page => $last));
    return _json($c, $walk, \@who, [], ['Link', join ', ', @links],
        ['X-Total-Count', $walk->count]);
}

# the request's own URL with another value, as Go writes it
sub _link {
    my ($c, $rel, %set) = @_;
    my %q = map { my ($k, $v) = split /=/, $_, 2;
        AuthDouble::Http::unescape($k) => AuthDouble::Http::unescape($v // '') }
        split /&/, $c->{req}{query};
    %q = (%q, %set);
    my $query = join '&',
        map { _escape($_) . '=' . _escape($q{$_}) } sort keys %q;
    return "</admin/users?$query>; rel=\"$rel\"";
}

sub _escape {
    my ($s) = @_;
    $s =~ s/([^A-Za-z0-9_.~ -])/sprintf '%%%02X', ord $1/ge;
    $s =~ tr/ /+/;
    return $s;
}

sub _from_cursor {
    my ($c, $walk, $q, $desc) = @_;
    my $limit = $q->{limit} eq '' ? 50 : $q->{limit};
    return $c->error(400, 'validation_failed',
        'Bad Pagination Parameters: limit must be between 1 and 1000')
        if $limit !~ /\A[0-9]{1,4}\z/ || $limit < 1 || $limit > 1000;
    my $cursor = $q->{cursor} eq '' ? undef : _cursor($q->{cursor})
        // return $c->error(400, 'validation_failed',
        'Bad Pagination Parameters: invalid cursor');
    my @who = $walk->after($cursor, $limit + 1, $desc);
    my $more = @who > $limit;
    pop @who if $more;
    return _json($c, $walk, \@who,
        [pagination => obj(has_more => bool(0))]) if !$more;
    my $next = encode_base64url(encode(obj(
        created_at => rfc3339(_time($walk->created($who[-1]))),
        id => $walk->id($who[-1]))));
    return _json($c, $walk, \@who,
        [pagination => obj(next_cursor => $next, has_more => bool(1))],
        ['Link', _link($c, 'next', cursor => $next)]);
}

sub _time { return [int($_[0] / 1_000_000), $_[0] % 1_000_000 * 1000] }

# [time, id], or undef
sub _cursor {
    my ($text) = @_;
    my $v = eval { plain(decode(decode_base64url($text))) };
    return ref $v eq 'HASH' && ($v->{id} // '') =~ /\A$UUID\z/
        ? eval { [micros($v->{created_at}), lc $v->{id}] } : undef;
}

1;
