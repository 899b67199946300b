from django.urls import path

from . import views

urlpatterns = [
    path("publish/<str:queue>/", views.publish_now),
    path("apublish/<str:queue>/", views.publish_async),
    path("order/<str:queue>/<int:number>/", views.order),
]
