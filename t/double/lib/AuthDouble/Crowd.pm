package AuthDouble::Crowd;
# Many users who are only numbers until somebody touches them: each is made
# from its number when it is asked for, the same in each run. Their
# created_at rises with the number, and neighbours share it.
use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use Digest::SHA qw(sha256);
use MIME::Base64 qw(encode_base64url);
use AuthDouble::Json qw(encode);
use AuthDouble::UserJson qw(user_json rfc3339);

use constant SECOND => 1_000_000;
use constant DAY => 86_400 * SECOND;
use constant FIRST => 1_704_067_200 * SECOND;    # 2024-01-01
use constant SPAN => 900 * DAY;
use constant FOREVER => 4_922_208_000 * SECOND;  # 2125-12-23
# so many neighbours share a time; no size of a page is a multiple of it
use constant TOGETHER => 7;

# new(n => how many, seed => their ids, domain => of their addresses,
#     bulk => so many in the middle share one time, like after an import)
sub new {
    my ($class, %arg) = @_;
    my $self = bless {n => 0, seed => 1, domain => 'crowd.example.com',
        bulk => 0, %arg, gone => {}}, $class;
    $self->{step} = int(SPAN / (1 + $self->{n} / TOGETHER));
    return $self;
}

# The numbers of those who are still what they were made to be.
sub members {
    my ($self) = @_;
    my $gone = $self->{gone};
    return [grep { !$gone->{$_} } 0 .. $self->{n} - 1];
}

sub leave { $_[0]{gone}{$_[1]} = 1; return }

# ---- whom a number stands for
sub kind {
    my ($self, $i) = @_;
    return $i % 50 == 3 ? 'deleted' : $i % 25 == 11 ? 'anonymous'
        : $i % 20 == 13 ? 'phone' : 'email';
}

sub id {
    my ($self, $i) = @_;
    my $h = md5_hex("$self->{seed}:$i");
    return substr($h, 0, 8) . '-' . substr($h, 8, 4) . '-4' . substr($h, 13, 3)
        . '-a' . substr($h, 17, 3) . sprintf '-%012x', $i;
}

# the number of an id, or undef
sub index_of {
    my ($self, $id) = @_;
    my $i = $id =~ /-([0-9a-f]{12})\z/ ? hex $1 : $self->{n};
    return $i < $self->{n} && !$self->{gone}{$i} && $self->id($i) eq $id
        ? $i : undef;
}

# the number of whoever has this address, or undef
sub index_of_email {
    my ($self, $email) = @_;
    my ($i) = $email =~ /\Au[.+']?([0-9]+)\@\Q$self->{domain}\E\z/ or return;
    return $i < $self->{n} && !$self->{gone}{$i} && $self->kind($i) eq 'email'
        && $self->address($i) eq $email ? $i : undef;
}

sub address {
    my ($self, $i) = @_;
    my $mark = $i % 97 == 5 ? "'" : $i % 89 == 6 ? '+' : '';
    return "u$mark$i\@$self->{domain}";
}

sub number { return sprintf '4915%08d', $_[1] }

# in microseconds
sub created {
    my ($self, $i) = @_;
    my $first = int($self->{n} / 2);
    $i = $first if $i > $first && $i < $first + $self->{bulk};
    return FIRST + int(($i + 3) / TOGETHER) * $self->{step};
}

sub banned_until {
    my ($self, $i) = @_;
    return $i % 40 == 7 ? FOREVER
        : $i % 200 == 9 ? $self->created($i) + DAY : undef;
}

my @NAME = ('Ada Byron', "Zo\xc3\xab \"Z\" O'Neil", "\xe5\xb0\x8f\xe6\x9e\x97",
    'Tom & <Jerry>', "back\\slash\ttab");

sub name { return $NAME[$_[1] % @NAME] }

# as in Supabase: the address is free again, and nobody can tell it
sub hash_of {
    my ($id, $what, $length) = @_;
    return substr encode_base64url(sha256($id . $what)), 0, $length;
}

# The user as AuthDouble::Store keeps one.
sub user {
    my ($self, $i) = @_;
    my $kind = $self->kind($i);
    my $id = $self->id($i);
    my $t = $self->created($i);
    my $u = {id => $id, aud => 'authenticated', role => 'authenticated',
        email => '', phone => '', password => 'Secret-pass-12',
        app_metadata => {}, user_metadata => {}, identities => [],
        created_at => _time($t), updated_at => _time($t + 84_235),
        is_anonymous => $kind eq 'anonymous' ? 1 : 0};
    my $banned = $self->banned_until($i);
    $u->{banned_until} = _time($banned) if $banned;
    if ($kind eq 'deleted') {
        $u->{email} = hash_of($id, $self->address($i), 43);
        $u->{new_email} = hash_of($id, '', 43);
        $u->{phone} = $u->{new_phone} = hash_of($id, '', 15);
        $u->{deleted_at} = _time($t + DAY);
        $u->{updated_at} = _time($t + DAY + 46_867);
    }
    elsif ($kind ne 'anonymous') { $self->_sign_up($u, $i, $kind) }
    return $u;
}

sub _sign_up {
    my ($self, $u, $i, $kind) = @_;
    my $yes = AuthDouble::Json::bool(1);
    my $no = AuthDouble::Json::bool(0);
    my $email = $kind eq 'email';
    $u->{$kind} = $email ? $self->address($i) : $self->number($i);
    $u->{"${kind}_confirmed_at"} = $u->{updated_at};
    $u->{app_metadata} = {provider => $kind, providers => [$kind]};
    $u->{user_metadata} = {full_name => $self->name($i), sub => $u->{id},
        email_verified => $email ? $yes : $no, phone_verified => $no,
        ($email ? (email => $u->{email}) : ())};
    $u->{identities} = [{identity_id => $u->{id}, id => $u->{id},
        user_id => $u->{id}, provider => $kind,
        identity_data => {sub => $u->{id}, $kind => $u->{$kind}},
        ($email ? (email => $u->{email}) : ()),
        map { $_ => $u->{created_at} }
            qw(last_sign_in_at created_at updated_at)}];
    return;
}

sub _time { return [int($_[0] / SECOND), $_[0] % SECOND * 1000] }

# ---- what a list has of a user: the same as AuthDouble::UserJson makes of
# user($i), several times faster
my @TEXT_OF_NAME = map { encode($_) } @NAME;

sub text {
    my ($self, $i) = @_;
    my $kind = $self->kind($i);
    return encode(user_json($self->user($i), list => 1))
        if $kind eq 'deleted';
    my $id = $self->id($i);
    my $t = $self->created($i);
    my ($created, $updated) = map { rfc3339(_time($_)) } $t, $t + 84_235;
    my $email = $kind eq 'email' ? $self->address($i) : '';
    my $phone = $kind eq 'phone' ? $self->number($i) : '';
    my $confirmed = $kind eq 'anonymous' ? '' : qq(confirmed_at":"$updated",);
    my $is_email = $email ne '' ? qq("email":"$email","email_verified":true)
        : '"email_verified":false';
    my $app = $kind eq 'anonymous' ? '{}'
        : qq({"provider":"$kind","providers":["$kind"]});
    my $user = $kind eq 'anonymous' ? '{}' : "{$is_email,"
        . qq("full_name":$TEXT_OF_NAME[$i % @NAME],"phone_verified":false,)
        . qq("sub":"$id"});
    my $banned = $self->banned_until($i);
    $banned = $banned
        ? '"banned_until":"' . rfc3339(_time($banned)) . '",' : '';
    return qq({"id":"$id","aud":"authenticated","role":"authenticated",)
        . qq("email":"$email",)
        . ($kind eq 'email' ? qq("email_$confirmed) : '')
        . qq("phone":"$phone",)
        . ($kind eq 'phone' ? qq("phone_$confirmed) : '')
        . ($confirmed ? qq("$confirmed) : '')
        . qq("app_metadata":$app,"user_metadata":$user,)
        . qq("identities":null,"created_at":"$created",)
        . qq("updated_at":"$updated",$banned"is_anonymous":)
        . ($kind eq 'anonymous' ? 'true}' : 'false}');
}

1;
