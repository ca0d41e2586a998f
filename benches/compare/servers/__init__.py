"""The caches that are compared. Tidegate comes first: every ratio is Tidegate's figure over another's."""

from servers.haproxy import Haproxy
from servers.nginx import Nginx, TunedNginx
from servers.tidegate import Tidegate
from servers.trafficserver import TrafficServer
from servers.varnish import Varnish

ALL = [Tidegate, Nginx, TunedNginx, Varnish, TrafficServer, Haproxy]
