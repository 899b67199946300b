import os

from django.http import JsonResponse
from django.urls import include, path


def pid(request):
    return JsonResponse({"pid": os.getpid()})


urlpatterns = [path("pid/", pid), path("", include("tests.test_app.urls"))]
