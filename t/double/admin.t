#!/usr/bin/perl
# The double's admin list: who may ask, both ways to walk it, and many users.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../lib";
use File::Temp qw(tempdir);
use HTTP::Tiny;
use JSON::PP ();
use Test::More;
use AuthDouble::SelfTest qw(shape raw_connect raw_send raw_eof http request
    slurp);
use UserSync::Double;

my $FIX = "$FindBin::RealBin/../fixtures/supabase";
my $dir = tempdir(CLEANUP => 1);
my $d = UserSync::Double->start(dir => "$dir/double");
my %index = map { $_->{file} => $_ }
    @{JSON::PP->new->utf8->decode(slurp("$FIX/index.json"))};
my $JSON = JSON::PP->new->utf8->canonical;
my $T = JSON::PP::true();
my $SECRET = $d->key('secret');

# one connection for all requests, as a client that walks has
my $http = HTTP::Tiny->new(timeout => 60);

sub get {
    my ($path, %h) = @_;
    my %head = (apikey => $SECRET, 'X-Supabase-Api-Version' => '2024-01-01',
        %h);
    delete @head{grep { !defined $head{$_} } keys %head};
    return $http->get($d->url . "/auth/v1/admin/users$path",
        {headers => \%head});
}

sub body_of { return $JSON->decode($_[0]{content}) }
sub ids { return map { $_->{id} } @{body_of($_[0])->{users}} }

# hashes are as long as the real ones
sub hashes {
    my ($shape) = @_;
    $shape =~ s/"[\w-]{43}"/HASH/g;
    $shape =~ s/"[\w-]{15}"/SHORT-HASH/g;
    return $shape;
}

sub like_fixture {
    my ($r, $file) = @_;
    my $want = $index{$file};
    subtest $file => sub {
        is $r->{status}, $want->{status}, 'status';
        my %h = %{$want->{headers}};
        for (sort keys %h) {
            (my $value = $h{$_}) =~ s/cursor=\w+/cursor=CURSOR/;
            my $got = $r->{headers}{lc $_} // '';
            $got =~ s/cursor=\w+/cursor=CURSOR/;
            is $got, $value, $_;
        }
        my ($got, $shape) = map { hashes(shape($_))
            =~ s/next_cursor:"\w+"/next_cursor:CURSOR/r } $r->{content},
            slurp("$FIX/$file");
        is $got, $shape, 'body';
    };
    return;
}

# ---- who may ask
my $ada = $d->add_user(email => 'ada@example.com');
my $user_token = $d->mint($ada->{id});
my ($anon, $service, $publishable)
    = map { $d->key($_) } qw(anon service_role publishable);
for (['a secret key', 200, undef, apikey => $SECRET],
    ['no key', 401, 'No API key found in request', apikey => undef],
    ['a wrong key', 401, 'Invalid API key', apikey => 'sb_secret_wrong'],
    ['a publishable key', 403, 'not_admin', apikey => $publishable],
    ['the legacy key', 200, undef, apikey => $service,
        Authorization => "Bearer $service"],
    ['the legacy key as apikey alone', 401, 'no_authorization',
        apikey => $service],
    ['the legacy key as Bearer alone', 401, 'No API key found in request',
        apikey => undef, Authorization => "Bearer $service"],
    ['the anon key', 403, 'not_admin', apikey => $anon,
        Authorization => "Bearer $anon"],
    ['a secret key as Bearer beside another', 401, 'Invalid API key',
        apikey => $publishable, Authorization => "Bearer $SECRET"],
    ['a secret key as Bearer, too', 403, 'bad_jwt',
        Authorization => "Bearer $SECRET"],
    ["a user's token", 403, 'not_admin',
        Authorization => "Bearer $user_token"],
    ['a browser', 401, 'Forbidden use of secret API key in browser',
        'User-Agent' => 'Mozilla/5.0']) {
    my ($name, $status, $why, %h) = @$_;
    for my $path ('', "/$ada->{id}") {
        my $r = get($path, %h);
        is $r->{status}, $status, "$name: $status";
        my $body = body_of($r);
        is $body->{code} // $body->{message}, $why, "$name: why"
            if $status != 200;
    }
}
like_fixture(get('', apikey => $publishable), 'err_not_admin.v2024.json');
like_fixture(get('', apikey => $publishable,
    'X-Supabase-Api-Version' => undef), 'err_not_admin.legacy.json');
like_fixture(get('', apikey => $service), 'err_no_authorization.v2024.json');
like_fixture(get('/' . 'a' x 8 . '-0000-4000-8000-000000000000'),
    'err_admin_user_not_found.v2024.json');
like_fixture(get('/ada@example.com'), 'err_admin_user_id_not_uuid.v2024.json');
is request($d->port, http('PATCH', '/auth/v1/admin/users', '{}',
    apikey => $SECRET))->{status}, 405, 'there is no other method';

# ---- the shape of answers
$d->reset;
$d->add_user(email => "$_\@example.com") for qw(bob cy dee);
$d->add_user(phone => '15551234567', confirmed => JSON::PP::false(),
    user_metadata => {});
my $phone = $d->users->[-1]{id};
$d->change_user($phone, user_metadata => {});
$ada = $d->add_user(email => 'ada@example.com');
like_fixture(get('?page=1&per_page=2'), 'admin_users_page.json');
like_fixture(get('?page=9&per_page=50'), 'admin_users_empty.json');
$d->config(cursor_pagination => 1);
like_fixture(get('?limit=1'), 'admin_users_cursor.json');
ok !exists get('?limit=1')->{headers}{'x-total-count'}, 'no count';
is get('?limit=500&page=1')->{headers}{'x-total-count'}, 5,
    'a page is not a cursor';
is_deeply body_of(get('?limit=5'))->{pagination},
    {has_more => JSON::PP::false()}, 'nothing follows';
is get($_)->{status}, 400, $_ for '?limit=1001', '?limit=0', '?limit=x',
    '?cursor=nonsense', '?sort=email', '?page=-1', '?page=x';
is get('?page=1&per_page=0')->{status}, 500, 'per_page=0';
$d->config(cursor_pagination => 0);
my $r = get('?limit=1');
is scalar(ids($r)), 5, 'without the flag the limit is not one';
ok !exists body_of($r)->{pagination}, 'and the answer says so';

$d->change_user($ada->{id}, confirmation_sent_at => 1, last_sign_in_at => 1);
like_fixture(get("/$ada->{id}"), 'admin_user_get.json');
$d->change_user($ada->{id}, confirmation_sent_at => undef,
    last_sign_in_at => undef, soft_deleted => $T);
like_fixture(get("/$ada->{id}"), 'admin_user_soft_deleted.json');
isnt $d->add_user(email => 'ada@example.com')->{id}, $ada->{id},
    'the address of the deleted is free';
is body_of(get("/" . uc $phone))->{phone}, '15551234567', 'an id in capitals';
$d->delete_user($phone);
is get("/$phone")->{status}, 404, 'deleted';

# ---- a crowd
# walk(query, size): the ids in order, by offset
sub walk {
    my ($query, $size) = @_;
    my @ids;
    for (my $page = 1;; $page++) {
        my @more = ids(get("?page=$page&per_page=$size$query")) or return @ids;
        push @ids, @more;
    }
}

sub walk_cursor {
    my ($query, $size) = @_;
    my ($cursor, @ids) = '';
    while (1) {
        my $body = body_of(get("?limit=$size$query$cursor"));
        push @ids, map { $_->{id} } @{$body->{users}};
        my $next = $body->{pagination}{next_cursor} // return @ids;
        $cursor = "&cursor=$next";
    }
}

sub dump_of {
    my ($d) = @_;
    return map { [split /\t/, $_, -1] } split /\n/, slurp($d->dump);
}

my $ASC = '&sort=created_at%20asc';
sub crowd { $d->reset; $d->add_crowd(@_); return dump_of($d) }

my @all = crowd(n => 700);
is @all, 700, 'all of them';
is scalar(keys %{{map { $_->[0] => 1 } @all}}), 700, 'each with its own id';
ok eval { $d->add_crowd(n => 1); 0 } || $@ =~ /a crowd already/, 'one crowd';
my $list = body_of(get("?per_page=700$ASC"))->{users};
my $wrong = 0;
for (@$list) {
    my $u = body_of(get("/$_->{id}"));
    $u->{identities} = undef;
    next if $JSON->encode($u) eq $JSON->encode($_);
    diag $JSON->encode($u), "\n", $JSON->encode($_) if !$wrong++;
}
is $wrong, 0, 'the list has what each user has';
my %seen = (banned => scalar grep { $_->{banned_until} } @$list);
$seen{$_->{deleted_at} ? 'deleted' : $_->{is_anonymous} ? 'anonymous'
    : $_->{email} eq '' ? 'phone' : 'email'}++ for @$list;
cmp_ok $seen{$_}, '>', 5, "some are $_"
    for qw(deleted anonymous phone email banned);
is_deeply [sort map { $_->{id} } @$list], [sort map { $_->[0] } @all],
    'the dump has the same';
my %created = map { $_->[0] => $_->[6] } @all;
my @times = map { $created{$_} } walk($ASC, 100);
is_deeply \@times, [sort { $a <=> $b } @times], 'the oldest first';
@times = map { $created{$_} } walk('', 100);
is_deeply \@times, [sort { $b <=> $a } @times], 'the newest first';

my $first = join ' ', ids(get("?per_page=100$ASC"));
isnt join(' ', ids(get("?per_page=100$ASC"))), $first,
    'equal times come in another order the next time';
my @walked = walk($ASC, 100);
ok keys %{{map { $_ => 1 } @walked}} < 700, 'so a walk misses some';
is @walked, 700, 'and has others twice';
is_deeply [crowd(n => 700)], \@all, 'the same crowd in each run';
my @disorder = walk($ASC, 100);
crowd(n => 700);
is_deeply [walk($ASC, 100)], \@disorder, 'and the same disorder';
crowd(n => 700);
$d->config(order_of_equals => 2);
isnt join(' ', walk($ASC, 100)), "@disorder", 'but with another seed';
$d->config(order_of_equals => 0);
is_deeply [walk($ASC, 100)], [map { $_->[0] } @all], 'none: a fixed order';
$d->config(order_of_equals => 1);
$d->config(cursor_pagination => 1);
is_deeply [walk_cursor($_, 99)], [walk_cursor($_, 1000)], "a cursor$_"
    for '', $ASC;
is_deeply [sort(walk_cursor('', 99))], [sort map { $_->[0] } @all],
    'misses nobody';
is_deeply [reverse walk_cursor('', 50)], [walk_cursor($ASC, 50)],
    'in both directions';
$d->config(cursor_pagination => 0);

my @bulk = crowd(n => 700, bulk => 150);
my %together;
$together{$_->[6]}++ for @bulk;
is scalar(grep { $_ >= 150 } values %together), 1,
    'more than a page may have the same time';

# ---- a member of the crowd is a user like others
crowd(n => 700);
my ($one) = grep { $_->[1] eq 'u21@crowd.example.com' } @all;
is request($d->port, http('POST', '/auth/v1/token?grant_type=password',
    $JSON->encode({email => $one->[1], password => 'Secret-pass-12'}),
    apikey => $d->key))->{status}, 200, 'signs in';
is get('')->{headers}{'x-total-count'}, 700, 'and is still counted once';
$d->delete_user($one->[0]);
is get('')->{headers}{'x-total-count'}, 699, 'or not at all';
is get("/$one->[0]")->{status}, 404, 'after a deletion';
$d->change_user($all[0][0], banned => $T);
$d->change_user($all[1][0], soft_deleted => $T);
my %now = map { $_->[0] => $_ } dump_of($d);
ok $now{$all[0][0]}[4] > 1e6 * time, 'banned';
ok $now{$all[1][0]}[5] > 0 && $now{$all[1][0]}[1] !~ /@/, 'softly deleted';
my @before = dump_of($d);
$d->restart;
is_deeply [dump_of($d)], \@before, 'all outlive a restart';

# ---- changes while somebody walks
crowd(n => 300);
my $new = 'bbbbbbbb-0000-4000-8000-000000000001';
$d->at(admin_list => 2, POST => '/users',
    {id => $new, email => 'new@example.com'});
$d->at(admin_list => 2, DELETE => "/users/$all[299][0]");
$d->at(admin_list => 3, POST => '/faults', {op => 'admin_list',
    kind => 'status', status => 429, headers => {'Retry-After' => 7}});
is get('')->{headers}{'x-total-count'}, 300, 'the first request';
ok !grep({ $_->{id} eq $new } $d->users), 'nothing has happened';
my %second = map { $_ => 1 } ids(get("?per_page=1000$ASC"));
ok $second{$new}, 'one more in the second';
ok !$second{$all[299][0]}, 'and one less';
$r = get('');
is "$r->{status} $r->{headers}{'retry-after'}", '429 7', 'the third: too many';
is get('')->{status}, 200, 'once';

# ---- faults know the two calls
$d->fault(op => 'admin_list', kind => 'fixture',
    file => 'err_request_timeout.v2024.json');
is get("/$all[0][0]")->{status}, 200, 'of the list, not of one user';
is get('')->{status}, 504, 'too slow for Supabase';
$d->fault(op => 'admin_user', kind => 'status', status => 502);
is get('')->{status}, 200, 'of one user, not of the list';
is get("/$all[0][0]")->{status}, 502, 'of one user';
$d->fault(op => 'admin_list', kind => 'cut');
my $s = raw_connect($d->port);
raw_send($s, http('GET', '/auth/v1/admin/users', undef, apikey => $SECRET));
my ($text, $end) = raw_eof($s);
is $end, 'eof', 'cut off';
ok $text =~ /Content-Length: ([0-9]+).*\r\n\r\n(.*)\z/s && length $2 < $1,
    'in the middle';

# ---- as many as a large project has
$d->reset;
$d->add_crowd(n => 100_000);
$d->config(cursor_pagination => 1);
my ($cursor, %ids) = '';
while (1) {
    my $page = get("?limit=1000$cursor")->{content};
    $ids{$1}++ while $page =~ /\{"id":"([0-9a-f-]+)"/g;
    my ($next) = $page =~ /"next_cursor":"(\w+)"/ or last;
    $cursor = "&cursor=$next";
}
is scalar(keys %ids), 100_000, '100 000 users';
is scalar(grep { $_ > 1 } values %ids), 0, 'each once';

is $d->stderr, '', 'nothing on stderr';
done_testing;
