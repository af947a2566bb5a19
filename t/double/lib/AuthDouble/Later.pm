package AuthDouble::Later;
# Values that are known at once, or only when somebody else has answered.
use strict;
use warnings;
use Exporter 'import';
use Mojo::IOLoop;
use Mojo::Promise;
use Scalar::Util qw(blessed);

our @EXPORT_OK = qw(when is_later pause);

# true for one that is not known yet
sub is_later {
    my ($value) = @_;
    return blessed $value && $value->isa('Mojo::Promise') ? 1 : 0;
}

# when($value, sub { my ($known) = @_; ... }): runs the block at once, or later.
# Returns what it returns, or what will be known later.
sub when {
    my ($value, $code) = @_;
    return is_later($value) ? $value->then($code) : $code->($value);
}

# known after so many seconds
sub pause {
    my ($seconds) = @_;
    my $promise = Mojo::Promise->new;
    Mojo::IOLoop->timer($seconds => sub { $promise->resolve });
    return $promise;
}

1;
