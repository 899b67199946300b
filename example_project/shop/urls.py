from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import path

from . import views

urlpatterns = [
    path("", views.index, name="index"),
    path("live.json", views.live, name="live"),
    path("orders/", views.place_order, name="place-order"),
    path("orders/declined/", views.decline_order, name="decline-order"),
    path("newsletters/", views.send_newsletter, name="send-newsletter"),
    path("nowhere/", views.publish_to_nowhere, name="publish-to-nowhere"),
    path("nobody/", views.leave_for_nobody, name="leave-for-nobody"),
    path("supplies/", views.want_supply, name="want-supply"),
    path("supplies/replay/", views.replay_supplies, name="replay-supplies"),
    path("broker/", views.switch_broker, name="switch-broker"),
    path("admin/", admin.site.urls),
    # The page has two files and should look right on any server. A real project has them collected.
    path("static/<path:path>", serve, {"insecure": True}),
]
